# Routes that another location passes on: what nginx can do for a location it can do for one route.

use lib 't';
use Gateway 'no_plan';

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: other, paths: ["/other/*"], upstream: u, location: "@other", strip_prefix: true}
  - {name: page, paths: ["/page"], location: "@page"}
  - {name: none, paths: ["/none"], upstream: u, location: "@none"}
  - {name: plain, paths: ["/*"], upstream: u}
YAML
    $block->set_value(config => <<'CONF') if !defined $block->config;
location / { gateway_pass gateway; add_header X-From outer; }
location @other { gateway_pass gateway; proxy_buffering off; add_header X-From other; add_header X-Again $gateway_route; }
location @page { root html; add_header X-From page; }
CONF
});

run_tests();

__DATA__

=== the location that the route names passes the request on, with its own settings
--- user_files
>>> page
page
--- request eval
["GET /plain", "GET /other/a", "GET /page", "POST /other/b\nbody"]
--- response_headers eval
['X-From: outer', "X-From: other\nX-Again: other", 'X-From: page', 'X-From: other']
--- response_body_like eval
['one GET /plain', 'one GET /a', 'page', 'one POST /b']


=== a location that is not there: a line says whose
--- request
GET /none
--- error_code: 500
--- error_log
route "none": its server has no location "@none"


=== what the outer location says of who may come holds
--- config
location / { gateway_pass gateway; deny all; }
location @other { gateway_pass gateway; }
--- request
GET /other/a
--- error_code: 403
--- error_log
access forbidden by rule


=== two protocols behind one location
--- skip_eval: 8: library() ne 'own'
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: g, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes:
  - {name: calls, paths: ["/package.Service/*"], upstream: g, location: "@grpc", protocols: [grpc]}
  - {name: pages, paths: ["/*"], upstream: u, protocols: [http]}
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 http2;
    location / { return 200; add_header X-Seen "$server_protocol $http_te"; add_trailer grpc-status 0; }
}
--- config
location / { gateway_pass gateway; }
location @grpc { gateway on; grpc_pass grpc://gateway; }
--- http2
--- request
POST /package.Service/Method
abc
--- more_headers
Content-Type: application/grpc
TE: trailers
--- response_headers
X-Seen: HTTP/2.0 trailers


=== what cannot be meant
--- gateway
version: 1
routes:
  - {name: a, paths: ["/a"], location: grpc}
  - {name: b, paths: ["/b"], location: "@x", reply: {status: 200}}
--- must_die
--- error_log
routes[0].location: must be the name of a location, such as `@grpc`
routes[1].location: a route that answers by itself passes nothing on
