# Copies of requests for another upstream: with path, headers and body of what is passed on; what comes back is nobody's.

use lib 't';
use Gateway 'no_plan';

$ENV{TEST_NGINX_BACKEND} = backend();

# The mirror says in a log of its own what it was sent.
sub copies {
    open my $in, '<', server_root() . '/logs/mirror.log' or return ();
    # A long line may be half written as yet.
    chomp(my @lines = grep { /\n\z/ } <$in>);
    return @lines;
}

add_block_preprocessor(sub {
    my $block = shift;
    (my $mirror = $block->mirror // 'upstream: copies') =~ s/\s+\z//;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth: [{name: keys, api_key: {header: X-Key}}]
consumers: [{name: acme, api_key: "a-key-that-is-long-enough"}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_BACKEND}]}
  - {name: copies, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_3}]}
  - {name: dead, nodes: [{host: 127.0.0.1, port: 1}]}
defaults: {canary: {variants: [{name: a, weight: 1}, {name: b, weight: 0}], mirror: {$mirror}}}
routes:
  - {name: api, paths: ["/api/*"], upstream: u, strip_prefix: true, headers: {X-Set: "by the route"}}
  - {name: closed, paths: ["/closed"], upstream: u, auth: [keys]}
  - {name: all, paths: ["/*"], upstream: u}
YAML
    $block->set_value(http_config => <<'CONF') if !defined $block->http_config;
log_format mirror '$request_method $request_uri [$http_x_set] [$http_host] $content_length [$request_body]';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    access_log logs/mirror.log mirror;
    client_body_buffer_size 1m;
    location / { proxy_pass http://127.0.0.1:$TEST_NGINX_BACKEND; }
    location /fails { return 500; }
}
CONF
    $block->set_value(config => 'location / { gateway_pass gateway; client_max_body_size 2m; }')
        if !defined $block->config;
});

run_tests();

__DATA__

=== what is passed on is copied, as it is passed on
--- request eval
["GET /api/a?b=c", "POST /echo\nthe body", "GET /status/404"]
--- error_code eval
[200, 200, 404]
--- response_body_like eval
['"path": ?"/a\?b=c"', '^the body$', '']
--- after_request eval
[sub {}, sub {}, sub {
    Test::More::ok(main::until_true(5, sub { (() = main::copies()) == 3 }), 'three copies') or Test::More::diag(main::copies());
    my @copies = sort(main::copies());
    Test::More::like($copies[0], qr{^GET /a\?b=c \[by the route\] \[localhost\] - \[-\]$}, 'path and headers');
    Test::More::like($copies[1], qr{^GET /status/404 \[-\]}, 'another');
    Test::More::like($copies[2], qr{^POST /echo \[-\] \[localhost\] 8 \[the body\]$}, 'the body');
}]


=== a chunked body, and one that is in a file
--- raw_request eval
"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" . "5\r\nhello\r\n" x 3 . "0\r\n\r\n"
--- response_body chomp
hellohellohello
--- after_request eval
[sub {
    my $large = 'x' x 300_000;
    Test::More::is(main::get('/echo', method => 'POST', body => $large)->{body}, $large, 'a large one comes back whole');
    Test::More::ok(main::until_true(5, sub { (() = main::copies()) == 2 }), 'two copies');
    my @sizes = sort map { length((/\[([^\]]*)\]$/)[0]) } main::copies();
    Test::More::is("@sizes", "15 300000", 'and the copies are whole');
}]


=== what is refused is not copied
--- request eval
["GET /closed", "GET /closed"]
--- more_headers eval
["X-Key: wrong", "X-Key: a-key-that-is-long-enough"]
--- error_code eval
[401, 200]
--- after_request eval
[sub {}, sub {
    main::until_true(5, sub { main::copies() });
    main::sleep(0.2);
    Test::More::is(scalar(() = main::copies()), 1, 'one copy');
}]


=== a mirror that fails is nobody's trouble
--- request eval
["GET /fails", "GET /after"]
--- error_code eval
[200, 200]


=== nor is one that is not there
--- mirror: upstream: dead
--- request
GET /a
--- error_code: 200
--- error_log
connect() failed


=== a share of them
--- mirror: upstream: copies, percent: 20%
--- request
GET /a
--- after_request eval
[sub {
    my $seen = main::burst(400, '/b');
    Test::More::is($seen->{200}, 400, 'all are answered');
    main::sleep(0.5);
    my $copies = () = main::copies();
    Test::More::cmp_ok($copies, '>', 40, "$copies copies");
    Test::More::cmp_ok($copies, '<', 130, "$copies copies");
}]


=== an answer of the route's own is copied to nobody
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_BACKEND}]}, {name: copies, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}]}]
routes:
  - {name: shadowed, paths: ["/*"], upstream: u, canary: {variants: [{name: a, weight: 1}, {name: b, weight: 0}], mirror: {upstream: copies}}}
--- config
location / { gateway shadow; return 200 ours; }
location /real { gateway_pass gateway; }
--- request eval
["GET /a", "GET /real"]
--- error_code eval
[200, 200]
--- after_request eval
[sub {}, sub {
    main::until_true(5, sub { main::copies() });
    Test::More::is(scalar(() = main::copies()), 1, 'only what goes through us');
}]
