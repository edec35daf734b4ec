# Variables: each in a header and in a log line, where it has a value and where it has none.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'subject', client => 'acme'}, $Secret);

our @Names = qw(route upstream peer host connection consumer decision reason limit_status breaker_state request_id);

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, optional: true, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {consumer: client}}}]
limiters:
  - {name: two, key: [route], rate: 1/h, burst: 2}
  - {name: shy, key: [route], rate: 1/h, burst: 1, mode: shadow}
upstreams:
  - {name: up, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], host: inner.example}
  - {name: fragile, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 1}, breaker: {failures: 1, open_for: 60s}}
routes:
  - {name: full, paths: ["/full"], upstream: up, auth: [p], limits: [two]}
  - {name: shadow, paths: ["/shadow"], upstream: up, limits: [shy]}
  - {name: plain, paths: ["/plain", "/status/*"], upstream: fragile}
  - {name: policy, paths: ["/policy"]}
YAML
    my $format = join ' ', map { "$_=\$gateway_$_" } @Names;
    $block->set_value(http_config => "log_format all '\$request_uri $format';\n" . ($block->http_config // ''));
    $block->set_value(config => "access_log logs/access.log all;\n"
        . join('', map { 'add_header X-' . tr/_/-/r . " \"\$gateway_$_\" always;\n" } @Names)
        . <<'CONF') if !defined $block->config;
location / { gateway_pass gateway; }
location = /policy { gateway on; root html; }
location = /off { return 200 "off\n"; }
CONF
});

run_tests();

__DATA__

=== all of them, in headers and in the log
--- request eval
["GET /full", "GET /full", "GET /full", "GET /nowhere", "GET /plain", "GET /shadow", "GET /shadow"]
--- more_headers eval
["$::Token\nX-Request-Id: 12345678", "", "", "", "Host: outer.example:81", "", ""]
--- error_code eval
[200, 200, 429, 404, 200, 200, 200]
--- response_headers_like eval
my $id = 'X-request-id: [0-9a-f-]{36}';
["X-route: full\nX-upstream: up\nX-peer: 127\\.0\\.0\\.1:\\d+\nX-host: inner\\.example\nX-connection: \nX-consumer: acme\nX-decision: forward\nX-reason: \nX-limit-status: PASSED\nX-breaker-state: \nX-request-id: 12345678",
 "X-route: full\nX-consumer: \nX-decision: forward\nX-limit-status: PASSED\n$id",
 "X-route: full\nX-upstream: up\nX-peer: \nX-decision: refuse\nX-reason: limit\\.exceeded\nX-limit-status: REJECTED\n$id",
 "X-route: \nX-upstream: \nX-peer: \nX-host: localhost\nX-decision: refuse\nX-reason: route\\.none\nX-limit-status: \n$id",
 "X-route: plain\nX-upstream: fragile\nX-host: outer\\.example:81\nX-breaker-state: closed\n$id",
 "X-limit-status: PASSED", "X-limit-status: REJECTED_DRY_RUN\nX-decision: forward"]
--- after_request eval
[undef, undef, undef, undef, undef, undef, sub {
    my $log = accesses();
    like($log, qr{^/full route=full upstream=up peer=127\.0\.0\.1:\d+ host=inner\.example connection=-? ?consumer=acme decision=forward reason=- limit_status=PASSED breaker_state=- request_id=12345678$}m, 'a full line');
    like($log, qr{^/full route=full upstream=up peer=- .* consumer=- decision=refuse reason=limit\.exceeded limit_status=REJECTED breaker_state=- request_id=[0-9a-f-]{36}$}m, 'a refusal');
    like($log, qr{^/nowhere route=- upstream=- peer=- host=localhost .* consumer=- decision=refuse reason=route\.none limit_status=- breaker_state=- request_id=[0-9a-f-]{36}$}m, 'no route');
    like($log, qr{^/plain route=plain upstream=fragile .* breaker_state=closed }m, 'a breaker');
}]


=== an id is one for header, log, backend and refusal, and differs from request to request
--- request eval
["GET /status/404", "GET /nowhere"]
--- error_code eval
[404, 404]
--- after_request eval
[sub {
    my %seen;
    $seen{get('/plain')->{headers}{'x-request-id'}}++ for 1 .. 50;
    is(scalar keys %seen, 50, 'no two alike');
}, sub {
    my $answer = get('/nowhere');
    my $id = $answer->{headers}{'x-request-id'};
    like($answer->{body}, qr/"request_id":"\Q$id\E"/, 'in the refusal');
    like(accesses(), qr/^\/nowhere .*request_id=\Q$id\E$/m, 'in the log');
}]


=== the breaker's states
--- request eval
["GET /status/503", "GET /plain", "GET /plain"]
--- after_request eval
[undef, sub { is($_->{status}, 503, 'open') for get('/plain') }, sub { reload(); is(get('/plain')->{headers}{'x-breaker-state'}, 'open', 'after a reload') }]
--- error_code eval
[503, 503, 503]
--- response_headers eval
["X-reason: ", "X-breaker-state: open\nX-reason: breaker.open\nX-decision: refuse", "X-breaker-state: open"]


=== where the gateway is off, or has no upstream, they are empty
--- user_files
>>> policy
policy
--- request eval
["GET /off", "GET /policy", "GET /off"]
--- more_headers eval
["", "", "Host: h.example:1\nConnection: Upgrade, close\nUpgrade: websocket"]
--- error_code eval
[200, 200, 200]
--- response_headers_like eval
["X-route: \nX-upstream: \nX-decision: \nX-reason: \nX-limit-status: \nX-breaker-state: \nX-host: localhost\nX-connection: ",
 "X-route: policy\nX-upstream: \nX-decision: forward\nX-peer: ", "X-host: h\\.example:1\nX-connection: upgrade"]
--- after_request eval
[undef, undef, sub {
    like(accesses(), qr{^/off route=- upstream=- peer=- host=localhost .*consumer=- decision=- reason=- limit_status=- breaker_state=- request_id=[0-9a-f-]{36}$}m, 'in the log');
}]


=== in expressions of nginx, and in a map
--- config
location / {
    gateway_pass gateway;
    add_header X-Class "$gateway_route/$gateway_decision" always;
    proxy_set_header X-Told "$gateway_route $gateway_upstream $gateway_consumer.";
}
--- request
GET /headers
--- error_code: 404
--- response_headers
X-Class: /refuse


=== misconfigured: a variable that there is not
--- config
location / { gateway_pass gateway; add_header X-A $gateway_rout; }
--- must_die
--- error_log
unknown "gateway_rout" variable


=== claims that nginx.conf names, and what our decisions cost
--- config
location / {
    gateway_pass gateway;
    add_header X-Sub "[$gateway_claim_sub]" always;
    add_header X-Client "[$gateway_claim_client]" always;
    add_header X-Deep "[$gateway_claim_org__unit]" always;
    add_header X-None "[$gateway_claim_nothing]" always;
    add_header X-Time "[$gateway_time]" always;
}
location = /off { return 200; add_header X-Time "[$gateway_time]" always; add_header X-Sub "[$gateway_claim_sub]" always; }
--- request eval
["GET /full", "GET /full", "GET /nowhere", "GET /off"]
--- more_headers eval
['Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada', client => 'acme', org => {unit => 7}}, $::Secret), "", "", ""]
--- error_code eval
[200, 200, 404, 200]
--- response_headers_like eval
["X-Sub: \\[ada\\]\nX-Client: \\[acme\\]\nX-Deep: \\[7\\]\nX-None: \\[\\]\nX-Time: \\[0\\.0[0-9]{5}\\]",
 "X-Sub: \\[\\]\nX-Client: \\[\\]\nX-Time: \\[0\\.0[0-9]{5}\\]", "X-Sub: \\[\\]\nX-Time: \\[0\\.0[0-9]{5}\\]", "X-Time: \\[\\]\nX-Sub: \\[\\]"]


=== a route's header with what its decision cost
--- gateway
version: 1
upstreams: [{name: up, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: timed, paths: ["/*"], upstream: up, headers: {X-Gateway-Time: "$gateway_time"}}]
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "time=$http_x_gateway_time.\n"; } }
--- request
GET /a
--- more_headers
X-Gateway-Time: forged
--- response_body_like: ^time=0\.0[0-9]{5}\.$
