# Limits: one for all workers, keys, headers, shadow, several as one decision. Load is in story/limit.t.

use lib 't';
use Gateway 'no_plan';

our $Secret = 'a secret that is longer than 32 bytes';
our ($Ada, $Bob) = map { jwt({iss => 'i', aud => 'a', sub => $_}, $Secret) } qw(ada bob);

$ENV{T_SECRET} = $Secret;
env_to_nginx('T_SECRET');

run_tests();

__DATA__

=== refused with everything that a client needs to come back in time
--- gateway
version: 1
limiters: [{name: few, key: [ip], rate: 2/m, burst: 2}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, limits: [few]}]
--- request eval
["GET /", "GET /", "GET /"]
--- error_code eval
[200, 200, 429]
--- response_headers_like eval
["RateLimit: \"few\";r=1;t=30\nRateLimit-Policy: \"few\";q=2;w=60",
 "RateLimit: \"few\";r=0;t=60\nRateLimit-Policy: \"few\";q=2;w=60",
 "Retry-After: 30\nRateLimit: \"few\";r=0;t=60\nRateLimit-Policy: \"few\";q=2;w=60\nContent-Type: application/problem\\+json"]
--- response_body_like eval
["^one", "^one", '"status":429.*"code":"limit\.exceeded"']


=== the other family of headers, and both
--- gateway
version: 1
limiters:
  - {name: x, key: [ip], rate: 1/m, burst: 3, headers: x}
  - {name: both, key: [ip], rate: 1/m, burst: 3, headers: both}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: x, paths: ["/x"], upstream: u, limits: [x]}
  - {name: both, paths: ["/both"], upstream: u, limits: [both]}
--- request eval
["GET /x", "GET /both"]
--- response_headers_like eval
["X-RateLimit-Limit: 3\nX-RateLimit-Remaining: 2\nX-RateLimit-Reset: 60", "X-RateLimit-Limit: 3\nRateLimit: \"both\";r=2;t=60"]


=== keys: header, consumer, route; who has none shares one bucket
--- gateway
version: 1
auth: [{name: people, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
limiters:
  - {name: by-header, key: ["header:X-Key"], rate: 1/m, burst: 1}
  - {name: by-consumer, key: [consumer], rate: 1/m, burst: 1}
  - {name: by-route, key: [route], rate: 1/m, burst: 1}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: h, paths: ["/h"], upstream: u, limits: [by-header]}
  - {name: c, paths: ["/c"], upstream: u, auth: [people], limits: [by-consumer]}
  - {name: r, paths: ["/r"], upstream: u, limits: [by-route]}
  - {name: s, paths: ["/s"], upstream: u, limits: [by-route]}
--- request eval
["GET /h", "GET /h", "GET /h", "GET /h", "GET /h", "GET /c", "GET /c", "GET /c", "GET /c", "GET /r", "GET /r", "GET /s"]
--- more_headers eval
["X-Key: a", "X-Key: b", "X-Key: a", "", "", "Authorization: Bearer $::Ada", "Authorization: Bearer $::Bob", "Authorization: Bearer $::Ada", "", "", "", ""]
--- error_code eval
[200, 200, 429, 200, 429, 200, 200, 429, 401, 200, 429, 200]


=== several limits are one decision: who is refused by one has taken nothing from the others
--- gateway
version: 1
limiters:
  - {name: wide, key: [ip], rate: 1/m, burst: 3}
  - {name: narrow, key: ["header:X-Key"], rate: 1/m, burst: 1}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, limits: [wide, narrow]}]
--- request eval
[("GET /") x 8]
--- more_headers eval
[("X-Key: a") x 5, "X-Key: b", "X-Key: c", "X-Key: d"]
--- error_code eval
[200, 429, 429, 429, 429, 200, 200, 429]


=== a request that fails auth has spent its address's token
--- gateway
version: 1
auth: [{name: people, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
limiters: [{name: few, key: [ip], rate: 1/m, burst: 2}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, auth: [people], limits: [few]}]
--- request eval
["GET /", "GET /", "GET /"]
--- more_headers eval
["", "Authorization: Bearer x.y.z", "Authorization: Bearer $::Ada"]
--- error_code eval
[401, 401, 429]


=== shadow counts and says so, and refuses nothing
--- gateway
version: 1
limiters: [{name: few, key: [ip], rate: 1/m, burst: 1, mode: shadow}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, limits: [few]}]
--- config
location / { gateway_pass gateway; add_header X-Limit $gateway_limit_status; }
location = /metrics { gateway_metrics; }
--- request eval
["GET /", "GET /", "GET /metrics"]
--- response_headers eval
["X-Limit: PASSED", "X-Limit: REJECTED_DRY_RUN", ""]
--- response_body_like eval
[".", ".", 'gateway_rate_limit_hits_total\{route="a",rule="few"\} 1']


=== one limit for both workers, and a reload does not fill it up again
--- gateway
version: 1
limiters: [{name: few, key: [ip], rate: 1/m, burst: 6}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, limits: [few]}]
--- request
GET /
--- after_request eval
sub {
    is_deeply(burst(40, '/'), {200 => 5, 429 => 35}, 'five are left of six, whichever worker is asked');
    ok(reload(), 'reload');
    is_deeply(burst(8, '/'), {429 => 8}, 'and none after it');
}


=== a limiter that admits nothing, or counts by nothing
--- gateway
version: 1
limiters:
  - {name: a, key: [ip], rate: 0/s}
  - {name: b, rate: 1/s}
  - {name: c, key: [colour], rate: 1/s}
  - {name: d, key: [ip], rate: 1/s, store: redis}
--- must_die
--- error_log eval
["gateway.yaml:3: limiters[0].rate", "gateway.yaml:4: limiters[1]", "gateway.yaml:5: limiters[2].key[0]", qr/gateway\.yaml:6: limiters\[3\]\.store: .*not supported yet/]
