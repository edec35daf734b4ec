# The form of a refusal: problem details, a page for people, trailers for gRPC; HEAD, HTTP/1.0, request ids, variables.

use lib 't';
use Gateway 'no_plan';

our $Policy = <<'YAML';
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/a", "/headers"], methods: [GET, PUT], upstream: u}, {name: plain, paths: ["/plain"], upstream: u, protocols: [http]}]
YAML

run_tests();

__DATA__

=== JSON, unless a page is preferred
--- gateway eval: $::Policy
--- request eval
[("GET /none") x 5]
--- more_headers eval
["", "Accept: */*", "Accept: text/html,application/xhtml+xml,*/*;q=0.8", "Accept: application/json, text/html", "Accept: application/problem+json"]
--- error_code eval
[404, 404, 404, 404, 404]
--- response_headers eval
["Content-Type: application/problem+json", "Content-Type: application/problem+json", "Content-Type: text/html", "Content-Type: application/problem+json", "Content-Type: application/problem+json"]
--- response_body_like eval
['"code":"route\.none"', '"code":"route\.none"', '<h1>404 Not Found</h1>', '"code":"route\.none"', '"code":"route\.none"']


=== 405 says what is allowed, in its body too; HEAD has headers alone
--- gateway eval: $::Policy
--- request eval
["DELETE /a", "HEAD /none", "POST /a\nbody"]
--- error_code eval
[405, 404, 405]
--- response_headers eval
["Allow: GET, PUT", "Content-Type: application/problem+json", "Allow: GET, PUT"]


=== gRPC: trailers only, on status 200
--- gateway eval: $::Policy
--- request
POST /none
--- more_headers
Content-Type: application/grpc
--- error_code: 200
--- response_headers
grpc-status: 12
grpc-message: route.none
Content-Type: application/grpc
--- response_body


=== a protocol that the route does not speak
--- gateway eval: $::Policy
--- request
GET /plain
--- more_headers
Upgrade: websocket
--- error_code: 403
--- response_body_like: route\.protocol


=== paths that change their meaning on the way are refused, and a body cannot smuggle one
--- gateway eval: $::Policy =~ s/\["\/a", /["\/*", "\/a", /r
--- raw_request eval
["GET /a/%2e%2e%2fb HTTP/1.0\r\n\r\n", "GET /a%5cb HTTP/1.0\r\n\r\n", "GET /a%0d%0ab HTTP/1.0\r\n\r\n", "GET /ok HTTP/1.0\r\n\r\n"]
--- error_code eval
[400, 400, 400, 200]


=== request ids: a well-formed one is kept, others are replaced, and both go to the backend and into the body
--- gateway eval: $::Policy
--- request eval
["GET /headers", "GET /headers", "GET /headers", "GET /none"]
--- more_headers eval
["X-Request-Id: abc-123_4.5", "X-Request-Id: no good\"}", "", "X-Request-Id: abc-123_4.5"]
--- error_code eval
[200, 200, 200, 404]
--- response_body_like eval
['id=abc-123_4\.5 ', 'id=[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12} ', 'id=[0-9a-f]{8}-[0-9a-f]{4}-7', '"request_id":"abc-123_4\.5"']


=== variables, where there is something to say and where there is not
--- http_config
log_format g '<$gateway_route|$gateway_upstream|$gateway_peer|$gateway_consumer|$gateway_decision|$gateway_reason|$gateway_limit_status|$gateway_breaker_state>';
--- gateway eval: $::Policy
--- config
access_log logs/g.log g;
location / { gateway_pass gateway; }
location /off { return 200 "off\n"; }
--- request eval
["GET /a", "GET /none", "GET /off"]
--- error_code eval
[200, 404, 200]
--- after_request eval
[undef, undef, sub {
    my @lines = split /\n/, Gateway::slurp(Gateway::server('root') . '/logs/g.log');
    like($lines[0], qr/^<a\|u\|127\.0\.0\.1:\d+\|-\|forward\|-\|-\|->$/, 'forwarded');
    is($lines[1], '<-|-|-|-|refuse|route.none|-|->', 'refused');
    is($lines[2], '<-|-|-|-|-|-|-|->', 'untouched');
}]


=== health and metrics: GET and HEAD alone; what reached no route counts under a dash
--- gateway eval: $::Policy
--- request eval
["GET /none", "GET /health", "HEAD /health", "POST /health", "GET /metrics", "POST /metrics"]
--- error_code eval
[404, 200, 200, 405, 200, 405]
--- response_body_like eval
[".", '^\{"status":"UP"\}$', '^$', "405", 'gateway_requests_total\{route="-",method="GET",status="404"\} 1', "405"]
