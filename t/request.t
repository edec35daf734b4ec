# HTTP itself, unharmed: Expect, ranges, HEAD, 304, HTTP/1.0, trailers, large headers, pipelines, refused bodies.

use lib 't';
use Gateway 'no_plan';

$ENV{TEST_NGINX_BACKEND} = backend();

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: b, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_BACKEND}]}
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$file://$TEST_NGINX_SERVER_ROOT/conf/secret"}]}}]
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: echo, paths: ["/echo"], upstream: b}
  - {name: private, paths: ["/private"], upstream: b, auth: [p]}
YAML
    $block->set_value(user_files => ">>> $ENV{TEST_NGINX_SERVER_ROOT}/conf/secret\na secret that is longer than 32 bytes\n" . ($block->user_files // ''));
    $block->set_value(http_config => <<'CONF') if !defined $block->http_config;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    root html;
    location / { return 200 "$server_protocol $request_method $http_connection.\n"; }
    location = /index.html { }
    location = /large { return 200 "$http_x_large\n"; }
    location = /gone { return 204; }
    location = /headers { add_header X-Large $http_x_large; return 200; }
}
CONF
});

run_tests();

__DATA__

=== HTTP/1.0, with a Host and without one
--- request eval
["GET /a HTTP/1.0", "GET /a HTTP/1.0"]
--- more_headers eval
["", "Host: localhost"]
--- response_body eval
["HTTP/1.1 GET .\n", "HTTP/1.1 GET .\n"]


=== HEAD has the headers and no body, forwarded and refused
--- request eval
["HEAD /index.html", "HEAD /private"]
--- error_code eval
[200, 401]
--- response_headers_like eval
['Content-Length: \d\d+', 'Content-Length: \d\d+']
--- response_body eval
["", ""]


=== 304, 204, 206, 416
--- request eval
["GET /index.html", "GET /index.html", "GET /index.html", "GET /gone"]
--- more_headers eval
["If-Modified-Since: Fri, 31 Dec 2049 23:59:59 GMT", "Range: bytes=0-5", "Range: bytes=9999-", ""]
--- error_code eval
[200, 206, 416, 204]
--- response_body_like eval
['^<html>', '^<html>$', '416', '^$']


=== 304 by date and by tag
--- request
GET /index.html
--- after_request eval
sub {
    my $headers = get('/index.html')->{headers};
    is(get('/index.html', headers => "If-None-Match: $headers->{etag}")->{status}, 304, 'by tag');
    is(get('/index.html', headers => "If-Modified-Since: $headers->{'last-modified'}")->{status}, 304, 'by date');
}
--- response_headers_like
ETag: ".*"


=== Expect: 100-continue is answered before the body, where it will be read
--- request
GET /
--- after_request eval
sub {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port()) or die;
    print $socket "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    $socket->flush;
    ok(IO::Select->new($socket)->can_read(2), 'something comes');
    sysread $socket, my $first, 65536;
    is($first, "HTTP/1.1 100 Continue\r\n\r\n", 'to go on');
    syswrite $socket, 'hello';
    like(CORE::join('', <$socket>), qr/^HTTP\S+ 200 .*\r\n\r\nhello\z/s, 'and the answer');
}


=== ... and not before a refusal
--- request
GET /
--- after_request eval
sub {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port()) or die;
    print $socket "POST /private HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    $socket->flush;
    ok(IO::Select->new($socket)->can_read(2), 'something comes');
    sysread $socket, my $first, 65536;
    like($first, qr/^HTTP\S+ 401 /, 'the refusal');
    # A client that sends its body all the same goes on with the next request.
    syswrite $socket, "helloGET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    like(CORE::join('', <$socket>), qr/HTTP\S+ 200 .*HTTP\/1\.1 GET/s, 'and the next one');
}


=== a refused body of a megabyte does not harm the connection
--- pipelined_requests eval
["POST /private\n" . 'x' x 100_000, "GET /a", "POST /private\nabc", "POST /echo\nabc"]
--- error_code eval
[401, 200, 401, 200]
--- response_body_like eval
['auth\.missing', '^HTTP/1\.1 GET', 'auth\.missing', '^abc$']


=== pipelined requests are answered in order
--- pipelined_requests eval
[map { "POST /echo\nnumber $_" } 1 .. 20]
--- error_code eval
[(200) x 20]
--- response_body eval
[map { "number $_" } 1 .. 20]


=== large headers go through both ways
--- config
large_client_header_buffers 8 64k;
location / { gateway_pass gateway; proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; }
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    large_client_header_buffers 8 64k;
    add_header X-Large $http_x_large;
    location / { return 200 "$http_x_other\n"; }
}
--- request
GET /
--- more_headers eval
"X-Large: " . 'y' x 30_000 . "\nX-Other: z\n" . CORE::join '', map { "X-Header-$_: $_\n" } 1 .. 100
--- response_headers eval
"X-Large: " . 'y' x 30_000
--- response_body
z


=== many headers, and those that are stripped among them
--- request
GET /
--- more_headers eval
CORE::join('', map { "X-Header-$_: $_\nX-Forwarded-For: 10.0.0.$_\n" } 1 .. 60) . "X-Last: l\n"
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "$http_x_header_1 $http_x_header_60 $http_x_last $http_x_forwarded_for\n"; }
}
--- response_body
1 60 l 127.0.0.1


=== a chunked answer
--- request
GET /
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    root html;
    location / { ssi on; ssi_types *; default_type text/plain; rewrite ^ /chunked break; }
}
--- user_files
>>> chunked
a<!--# echo var="request_uri" -->b
--- response_body
a/b


=== smuggling: a length beside chunks, two lengths, chunks that are none
--- request
GET /
--- after_request eval
sub {
    my $post = sub { exchange("POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$_[0]\r\n$_[1]") =~ /^HTTP\S+ (\d+)/ ? $1 : 'closed' };
    is($post->("Content-Length: 3\r\nContent-Length: 4\r\n", 'abcd'), 400, 'two lengths');
    is($post->("Transfer-Encoding: chunked\r\n", "xyz\r\n"), 400, 'a chunk that is none');
    is($post->("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, 'an encoding that nobody knows');
    is($post->("Content-Length: -1\r\n", ''), 400, 'a negative length');
}
--- no_error_log
[alert]
