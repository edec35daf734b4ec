# What t/Gateway.pm gives to every file: the document, sample servers, reload, edits, bursts, tokens.

use lib 't';
use Gateway 'no_plan';

our $Secret = 'a secret that is longer than 32 bytes';
our $Token  = jwt({iss => 'i', aud => 'a', sub => 'ada', permissions => ['orders:read']}, $Secret);
our $Other  = jwt({iss => 'i', aud => 'a', sub => 'bob', permissions => ['invoices:read']}, $Secret);

$ENV{T_SECRET} = $Secret;
env_to_nginx('T_SECRET');

run_tests();

__DATA__

=== a public route, and a server for each port that the document names
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: v, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes:
  - {name: u, paths: ["/u/*"], upstream: u}
  - {name: v, paths: ["/v/*"], upstream: v}
--- request eval
["GET /u/1?q", "POST /v/2\nbody", "GET /none", "GET /health", "GET /metrics"]
--- error_code eval
[200, 200, 404, 200, 200]
--- response_body_like eval
['^one GET /u/1\?q$', '^two POST /v/2$', '"code":"route.none"', '.', 'gateway_requests_total\{route="u",method="GET",status="200"\} 1']


=== a token and a permission
--- gateway eval
qq{
version: 1
auth:
  - name: people
    jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "\$env://T_SECRET"}], claims: {permissions: permissions}}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: orders, paths: ["/orders/*"], upstream: u, auth: [people], permissions: {any: ["orders:read"]}}]
}
--- request eval
["GET /orders/1", "GET /orders/1", "GET /orders/1", "GET /orders/1"]
--- more_headers eval
["", "Authorization: Bearer $::Token", "Authorization: Bearer $::Other", "Authorization: Bearer ${main::Token}x"]
--- error_code eval
[401, 200, 403, 401]
--- response_headers eval
["Content-Type: application/problem+json", "X-Backend: one", "!X-Backend", "!X-Backend"]
--- response_body_like eval
['auth.missing', '^one', 'permission.missing', 'auth.invalid']


=== a limit is one for both workers, an edit is live in a second, and both outlive a reload
--- gateway
version: 1
limiters: [{name: few, key: [ip], rate: 1/m, burst: 3}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u, limits: [few]}]
--- request eval
["GET /", "GET /", "GET /"]
--- after_request eval
[
    sub { is_deeply(burst(20, '/', connections => 4), {200 => 2, 429 => 18}, 'two are left of three, on whichever worker') },
    sub {
        ok(reload(), 'reload');
        is(get('/')->{status}, 429, 'the limit outlives the reload');
        ok(edit('limits: [few]', 'limits: []', sub { get('/')->{status} == 200 }), 'an edit is live within a second');
    },
    sub { is(get('/', headers => 'X-A: b')->{headers}{'x-backend'}, 'one', 'every worker has the edit') for 1 .. 8 },
]
--- error_code eval
[200, 429, 200]
--- response_headers eval
["X-Backend: one", "!X-Backend", "X-Backend: one"]


=== a broken edit changes nothing and is logged with its line
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub { edit('upstream: u}', 'upstrem: u}'); is(get('/')->{status}, 200, 'the last good document stays') for 1 .. 8 }
--- response_body_like: ^one
--- error_log
gateway.yaml:3: routes[0]: unknown field `upstrem`, did you mean `upstream`?
--- no_error_log
[alert]
[emerg]


=== a broken document at the start
--- gateway
version: 1
routes: [{name: all, paths: ["/*"], upstream: nowhere}]
--- must_die
--- error_log eval
qr/\[emerg\].*gateway\.yaml:2: .*nowhere/
--- suppress_stderr
