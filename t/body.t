# Bodies: how large they may be, with a length and without one.

use lib 't';
use Gateway 'no_plan';

# Reads a body before it answers.
$ENV{TEST_NGINX_BACKEND} = backend();

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: small, paths: ["/small/*"], upstream: u, max_body: 10}
  - {name: large, paths: ["/large/*"], upstream: u, max_body: 64k}
  - {name: any, paths: ["/*"], upstream: u}
YAML
    $block->set_value(config => 'location / { gateway_pass gateway; client_max_body_size 100k; }')
        if !defined $block->config;
});

# One request whose body has no length, in HTTP/2: the status that nginx logs for it. A client that is still sending when
# its stream is reset may miss the answer.
sub streamed {
    my ($path, $size) = @_;
    my $port = server_port();
    my $statuses = sub { [accesses() =~ m{"PUT \Q$path\E HTTP/2\.0" (\d{3})}g] };
    my $before = @{$statuses->()};
    system("head -c $size /dev/zero | curl -s -o /dev/null --max-time 10 --http2-prior-knowledge -T - http://127.0.0.1:$port$path");
    until_true(5, sub { @{$statuses->()} > $before });
    return $statuses->()->[-1] // 0;
}

run_tests();

__DATA__

=== a body with a length: as large as the route says, and not a byte more
--- request eval
["POST /small/a\n" . 'x' x 10, "POST /small/a\n" . 'x' x 11, "POST /large/a\n" . 'x' x 11, "POST /large/a\n" . 'x' x 65_536,
 "POST /large/a\n" . 'x' x 65_537, "GET /small/a"]
--- error_code eval
[200, 413, 200, 200, 413, 200]
--- response_body_like eval
['one POST', '"code":"body\.too_large"', 'one POST', 'one POST', '"title":"Content Too Large"', 'one GET']


=== what nginx itself says of the size of bodies holds beside
--- request eval
"POST /any\n" . 'x' x 102_401
--- error_code: 413
--- error_log
client intended to send too large body


=== a chunked body is counted as it comes
--- raw_request eval
my $chunk = sub { "5\r\nxxxxx\r\n" x $_[0] . "0\r\n\r\n" };
["PUT /small/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" . $chunk->(2)]
--- error_code: 200


=== and refused once it is too large
--- raw_request eval
["PUT /small/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" . "5\r\nxxxxx\r\n" x 3 . "0\r\n\r\n"]
--- error_code: 413


=== also where nothing is buffered
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_BACKEND}]}]
routes: [{name: small, paths: ["/small/*"], upstream: u, max_body: 10}]
--- config
location / { gateway_pass gateway; proxy_request_buffering off; }
--- raw_request eval
["PUT /small/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nxxxxx\r\n", "6\r\nxxxxxx\r\n"]
--- raw_request_middle_delay: 0.2
--- error_code: 413


=== who asks before it sends is not told to go on
--- config
location / { gateway_pass gateway; lingering_close off; }
--- request
GET /any
--- after_request eval
[sub {
    my $answer = main::exchange("PUT /small/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    Test::More::like($answer, qr{\AHTTP/1\.1 413 }, 'refused at once');
}]


=== who asks before it sends what fits is
--- request eval
"GET /any"
--- after_request eval
[sub {
    my $answer = main::exchange("PUT /small/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc");
    Test::More::like($answer, qr{\AHTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200}, 'goes on');
}]


=== HTTP/2: a body without a length
--- skip_eval: 3: library() ne 'own' || !`curl -V | grep -i http2`
--- http2
--- request
GET /any
--- after_request eval
[sub {
    for (['/small/a', 10, 200], ['/small/a', 11, 413], ['/large/a', 65_536, 200], ['/large/a', 90_000, 413]) {
        my ($path, $size, $status) = @$_;
        Test::More::is(main::streamed($path, $size), $status, "$size bytes to $path");
    }
}]


=== an edit holds for the next request
--- request eval
["POST /small/a\n" . 'x' x 11, "POST /small/a\n" . 'x' x 11]
--- error_code eval
[413, 200]
--- after_request eval
[sub { Test::More::ok(main::edit('max_body: 10', 'max_body: 1k', sub { main::get('/small/a', method => 'POST', body => 'x' x 11)->{status} == 200 }), 'edited') }, sub {}]


=== sizes that are none
--- gateway
version: 1
routes:
  - {name: a, paths: ["/a"], max_body: 0}
  - {name: b, paths: ["/b"], max_body: 10x}
  - {name: c, paths: ["/c"], max_body: -1}
--- must_die
--- error_log
routes[0].max_body: must be at least 1
routes[1].max_body: must be a size such as `64k` or `10m`
routes[2].max_body
