# What passes through unharmed: HTTP/1.1, HTTP/2, bodies of a megabyte, a WebSocket, a gRPC call.

use lib 't';
use Gateway 'no_plan';

$ENV{TEST_NGINX_BACKEND} = backend();

# A masked text frame and a masked close (RFC 6455): what a client says.
our $Frames = "\x81\x85abcd" . ('hello' ^ 'abcda') . "\x88\x80abcd";

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_BACKEND}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
    $block->set_value(config => 'location / { gateway_pass gateway; client_max_body_size 3m; }')
        if !defined $block->config;
});

run_tests();

__DATA__

=== HTTP/1.1: a body of a megabyte with a length
--- request eval
"POST /echo\n" . 'x' x 1_000_000
--- response_body eval
'x' x 1_000_000


=== HTTP/1.1: a chunked body of a megabyte
--- raw_request eval
"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    . ("3e8\r\n" . 'y' x 1000 . "\r\n") x 1000 . "0\r\n\r\n"
--- response_body eval
'y' x 1_000_000


=== HTTP/2: a request, and a body of a megabyte
--- skip_eval: 5: library() ne 'own'
--- http2
--- request eval
"POST /echo\n" . 'z' x 1_000_000
--- timeout: 10
--- response_body eval
'z' x 1_000_000


=== a WebSocket echoes
--- raw_request eval
["GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    . "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", $::Frames]
--- raw_request_middle_delay: 0.2
--- error_code: 101
--- response_headers
Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
--- response_body_like eval
qr/^\x81\x05hello\x88/


=== a gRPC call, in a location of its own
--- skip_eval: 6: library() ne 'own'
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- http_config
upstream gateway_grpc { gateway_balancer; keepalive 8; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 http2;
    location / {
        rewrite ^ /echo break;
        proxy_pass http://127.0.0.1:$TEST_NGINX_BACKEND;
        add_header X-Seen "$server_protocol $request_uri $http_te";
        add_trailer grpc-status 0;
    }
}
--- config
location / { gateway on; grpc_pass grpc://gateway_grpc; }
--- http2
--- request
POST /package.Service/Method
abc
--- more_headers
Content-Type: application/grpc
TE: trailers
--- response_headers
X-Seen: HTTP/2.0 /package.Service/Method trailers
--- response_body chomp
abc


=== no gRPC to a route that does not speak it: trailers alone
--- skip_eval: 6: library() ne 'own'
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u, protocols: [http]}]
--- config
location / { gateway on; grpc_pass grpc://gateway; }
--- http2
--- request
POST /package.Service/Method
--- more_headers
Content-Type: application/grpc
TE: trailers
--- response_headers
grpc-status: 7
--- response_body chomp
