# `gateway optional` and `gateway shadow`: what has no route is passed by, what would be refused goes its way and is told.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

package Test::Base::Filter {
    sub metric {
        my $name = shift;
        return get('/metrics')->{body} =~ /^\Q$name\E (\S+)$/m ? $1 : undef;
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {headers: {X-User: sub}}}}]
limiters: [{name: two, key: [global], rate: 1/h, burst: 2}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
bans: [{cidr: 192.0.2.1}]
routes:
  - {name: private, paths: ["/private/*"], upstream: u, auth: [p], headers: {X-Api: v2}}
  - {name: limited, paths: ["/limited/*"], upstream: u, limits: [two]}
  - {name: post, paths: ["/post"], upstream: u, methods: [POST]}
  - {name: fixed, paths: ["/fixed"], reply: {status: 418, body: tea}}
  - {name: moved, paths: ["/moved"], redirect: {to: "/private/"}}
  - {name: browsers, paths: ["/browsers"], upstream: u, cors: {origins: ["https://a.example"]}}
  - {name: cut, paths: ["/cut/*"], upstream: u, strip_prefix: true}
YAML
    $block->set_value(http_config => <<'CONF' . ($block->http_config // ''));
log_format seen '$request_uri $status route=$gateway_route decision=$gateway_decision reason=$gateway_reason limit=$gateway_limit_status';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    location / { return 200 "plain $request_method $request_uri user=$http_x_user api=$http_x_api xff=$http_x_forwarded_for id=$http_x_request_id\n"; }
}
CONF
    $block->set_value(config => "access_log logs/access.log seen;\nlocation = /metrics { gateway_metrics; }\n"
        . ($block->config // 'location / { gateway shadow; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }'));
});

run_tests();

__DATA__

=== shadow: nothing is refused, answered, added or taken away
--- request eval
["GET /private/a", "GET /private/a", "GET /limited/a", "GET /limited/a", "GET /limited/a", "GET /post", "GET /fixed", "GET /moved", "GET /cut/a%20b?c", "GET /none", "GET /a%2fb"]
--- more_headers eval
["X-User: mallory", "$::Token\nX-User: mallory\nX-Request-Id: 12345678", ("") x 9]
--- error_code eval
[(200) x 11]
--- response_headers eval
[("! RateLimit") x 11]
--- response_body_like eval
['^plain GET /private/a user=mallory api= xff= id=$', '^plain GET /private/a user=mallory api= xff= id=12345678$', ('^plain GET /limited/a') x 3,
 '^plain GET /post', '^plain GET /fixed', '^plain GET /moved', '^plain GET /cut/a%20b\?c user', '^plain GET /none', '^plain GET /a%2fb']
--- after_request eval
[(undef) x 10, sub {
    my $log = accesses();
    for ('/private/a 200 route=private decision=refuse reason=auth.missing limit=-', '/private/a 200 route=private decision=forward reason=- limit=-',
        '/limited/a 200 route=limited decision=forward reason=- limit=PASSED', '/limited/a 200 route=limited decision=refuse reason=limit.exceeded limit=REJECTED_DRY_RUN',
        '/post 200 route=- decision=refuse reason=route.method limit=-', '/fixed 200 route=fixed decision=respond reason=- limit=-',
        '/moved 200 route=moved decision=respond reason=- limit=-', '/none 200 route=- decision=refuse reason=route.none limit=-', '/a%2fb 200 route=- decision=refuse reason=path.refused limit=-')
    {
        like($log, qr/^\Q$_\E$/m, $_);
    }
    is(metric('gateway_requests_total{route="limited",method="GET",status="200"}'), 3, 'counted with what the client got');
    is(metric('gateway_rate_limit_hits_total{route="limited",rule="two"}'), 1, 'the limit');
    is(metric('gateway_shadow_refusals_total{route="limited",reason="limit.exceeded"}'), 1, 'what would have been refused');
    is(metric('gateway_shadow_refusals_total{route="private",reason="auth.missing"}'), 1, 'and why');
    is(metric('gateway_shadow_refusals_total{route="-",reason="route.none"}'), 1, 'also without a route');
    is(metric('gateway_active_connections'), 0, 'nobody is left');
}]


=== shadow: a preflight goes its way, and the backend's grants are its own
--- request
OPTIONS /browsers
--- more_headers
Origin: https://a.example
Access-Control-Request-Method: GET
--- response_body_like: ^plain OPTIONS
--- response_headers
! Access-Control-Allow-Origin


=== from a shadow into a location that means it
--- config
location / { gateway shadow; try_files /nothing @app; }
location @app { gateway_pass gateway; }
--- request eval
["GET /private/a", "GET /private/a", "GET /limited/a", "GET /limited/a", "GET /limited/a"]
--- more_headers eval
["", $::Token, "", "", ""]
--- error_code eval
[401, 200, 200, 200, 429]


=== from one that means it into a shadow: decided once
--- config
location / { gateway on; try_files /nothing @app; }
location @app { gateway shadow; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- request eval
["GET /private/a", "GET /private/a", "GET /limited/a"]
--- more_headers eval
["", $::Token, ""]
--- error_code eval
[401, 200, 200]
--- response_body_like eval
['auth.missing', 'user=ada api=v2', '^plain']
--- response_headers eval
["! RateLimit", "! RateLimit", "RateLimit: \"two\";r=1;t=3600"]


=== optional: what has no route is passed by, and counted nowhere
--- config
location / { gateway optional; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- request eval
["GET /none", "GET /private/a", "GET /private/a", "GET /post", "GET /a%2fb", "GET /fixed"]
--- more_headers eval
["X-User: own\nX-Forwarded-For: 192.0.2.9", "", $::Token, "", "", ""]
--- error_code eval
[200, 401, 200, 405, 400, 418]
--- response_body_like eval
['^plain GET /none user=own api= xff=192\.0\.2\.9 id=$', 'auth.missing', 'user=ada api=v2 xff=127', 'route.method', 'path.refused', 'tea']
--- after_request eval
[sub {
    like(accesses(), qr/^\/none 200 route=- decision=- reason=- limit=-$/m, 'nothing was decided');
    unlike(get('/metrics')->{body}, qr/^gateway_requests_total\{/m, 'nor counted');
    is(metric('gateway_active_connections'), 0, 'nor at hand');
}]


=== optional, then a location that wants a route
--- config
location / { gateway optional; try_files /nothing @app; }
location @app { gateway_pass gateway; }
--- request eval
["GET /none", "GET /limited/a"]
--- error_code eval
[404, 200]
--- response_headers eval
["! RateLimit", "RateLimit: \"two\";r=1;t=3600"]


=== optional: bans hold
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Client;
location / { gateway optional; return 200; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
location /x { gateway optional; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- request
GET /x
--- more_headers
X-Client: 192.0.2.1
--- error_code: 403
--- response_body_like: access.denied
