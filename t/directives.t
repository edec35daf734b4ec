# Directives: where each may stand, what it takes, how it is inherited, and what nginx says of mistakes.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {headers: {X-User: sub}}}}]
limiters: [{name: one, key: [route], rate: 1/h, burst: 1}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: v, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: guarded, hosts: [elsewhere.example], paths: ["/nowhere"], methods: [PUT], auth: [p]}
  - {name: limited, hosts: [elsewhere.example], paths: ["/nowhere2"], limits: [one]}
  - {name: second, hosts: [elsewhere.example], paths: ["/nowhere3"], upstream: v}
  - {name: asleep, paths: ["/asleep"], enabled: false}
YAML
});

run_tests();

__DATA__

=== gateway_route: the policy without matching, with whatever the location does
--- config
location /legacy/ { gateway_route guarded; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
location /files/ { gateway_route guarded; root html; }
location /other/ { gateway_route second; gateway_pass gateway; }
location /limited/ { gateway_route limited; root html; add_header X-Route $gateway_route always; }
location / { gateway_pass gateway; }
--- user_files
>>> files/f
file
>>> limited/f
limited
--- request eval
["GET /legacy/a", "GET /legacy/a", "GET /files/f", "GET /files/f", "GET /other/a", "GET /limited/f", "GET /limited/f", "GET /a"]
--- more_headers eval
["", $::Token, "", $::Token, "", "", "", ""]
--- error_code eval
[401, 200, 401, 200, 200, 200, 429, 200]
--- response_body_like eval
['auth.missing', '^one GET /legacy/a', 'auth.missing', '^file', '^two GET /other/a', '^limited', 'limit.exceeded', '^one']


=== gateway_route is inherited, overridden, and off
--- config
gateway_route guarded;
location / { root html; }
location /matched/ { gateway_route off; gateway_pass gateway; }
location /second/ { gateway_route second; gateway_pass gateway; }
location /none/ { gateway off; root html; }
location /none/again/ { gateway on; root html; }
--- user_files
>>> f
file
>>> none/f
none
>>> none/again/f
again
--- request eval
["GET /f", "GET /f", "GET /matched/x", "GET /second/x", "GET /none/f", "GET /none/again/f"]
--- more_headers eval
["", $::Token, "", "", "", ""]
--- error_code eval
[401, 200, 200, 200, 200, 401]
--- response_body_like eval
['auth.missing', '^file', '^one', '^two', '^none', 'auth.missing']


=== another route named in a named location is asked as well
--- config
location / { gateway on; try_files /nothing @b; }
location /back/ { gateway_route limited; try_files /nothing @c; }
location @b { gateway_route guarded; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
location @c { gateway_pass gateway; }
--- request eval
["GET /a", "GET /a", "GET /back/a", "GET /back/a"]
--- more_headers eval
["", $::Token, "", ""]
--- error_code eval
[401, 200, 200, 429]
--- response_body_like eval
['auth.missing', '^two', '^one GET /back/a', 'limit.exceeded']


=== gateway_route whose route an edit removes
--- config
location / { gateway_route limited; root html; }
--- user_files
>>> f
file
--- request
GET /f
--- after_request eval
sub {
    ok(edit('name: limited', 'name: limited2', sub { get('/f')->{status} == 503 }), 'gone');
    like(get('/f')->{body}, qr/"code":"route.gone"/, 'says so');
    ok(!reload(), 'no reload without it');
    ok(edit('name: limited2', 'name: limited', sub { get('/f')->{status} != 503 }), 'back');
}
--- error_log eval
['"gateway_route" names "limited", which is no route of the document any more', qr/\[emerg\].*"gateway_route": there is no route "limited" in \S+gateway.yaml in \S+nginx.conf:\d+/]
--- no_error_log
[alert]


=== gateway_route: a name that there is not, with the line
--- config
location / { gateway_route al; root html; }
--- must_die
--- error_log eval
qr/"gateway_route": there is no route "al" in \S+gateway.yaml in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_route: a route that is not enabled
--- config
location / { gateway_route asleep; root html; }
--- must_die
--- error_log eval
qr/"gateway_route": route "asleep" of \S+gateway.yaml is not enabled in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_route: no variables
--- config
location / { gateway_route $host; root html; }
--- must_die
--- error_log eval
qr/invalid name "\$host" in "gateway_route": it takes no variables in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_route twice
--- config
location / { gateway_route all; gateway_route all; root html; }
--- must_die
--- error_log eval
qr/"gateway_route" directive is duplicate in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_route in http
--- http_config
gateway_route all;
--- must_die
--- error_log eval
qr/"gateway_route" directive is not allowed here in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_route in an if
--- config
location / { if ($arg_a) { gateway_route all; } root html; }
--- must_die
--- error_log eval
qr/"gateway_route" directive is not allowed here in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway: a word that it does not know
--- config
location / { gateway maybe; root html; }
--- must_die
--- error_log eval
qr/invalid value "maybe" in "gateway" directive, it must be "on", "off", "optional" or "shadow" in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway twice
--- config
location / { gateway on; gateway shadow; root html; }
--- must_die
--- error_log eval
qr/"gateway" directive is duplicate in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway without a word
--- config
location / { gateway; root html; }
--- must_die
--- error_log eval
qr/invalid number of arguments in "gateway" directive in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway in an if
--- config
location / { if ($arg_a) { gateway on; } root html; }
--- must_die
--- error_log eval
qr/"gateway" directive is not allowed here in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway shadow beside gateway_pass, in either order
--- config
location / { gateway shadow; gateway_pass gateway; }
--- must_die
--- error_log eval
qr/"gateway shadow" stands beside "gateway_pass", which is "gateway on" .* in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway optional behind gateway_pass
--- config
location / { gateway_pass gateway; gateway optional; }
--- must_die
--- error_log eval
qr/"gateway optional" stands beside "gateway_pass", which is "gateway on" .* in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway on beside gateway_pass says it twice, and does no harm
--- config
location / { gateway_pass gateway; gateway on; }
location /b { gateway on; gateway_pass gateway; }
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[200, 200]


=== gateway is inherited from http over server to location, and an inner one wins
--- http_config
gateway on;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    location / { root html; return 404; }
    location = /asked { proxy_pass http://gateway; }
}
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
    gateway off;
    location / { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; add_header X-Route "$gateway_route" always; }
    location /on/ { gateway on; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; add_header X-Route "$gateway_route" always; }
}
--- config
location / { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_4; }
location /asked { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
--- request eval
["GET /a", "GET /on/a", "GET /asked"]
--- error_code eval
[200, 200, 200]
--- response_headers eval
["! X-Route", "X-Route: all", "X-Backend: one"]


=== gateway_balancer NAME: nginx's own proxy_pass, retries of nginx.conf, statistics, no decision
--- gateway
version: 1
upstreams:
  - {name: pair, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
  - {name: other, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes: [{name: all, paths: ["/*"], upstream: other}]
--- http_config
upstream pinned { gateway_balancer pair; keepalive 8; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "one $request_uri\n"; } location /half { return 503; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; location / { return 200 "two $request_uri\n"; } }
--- config
proxy_http_version 1.1;
proxy_set_header Connection "";
add_header X-Up "$gateway_upstream" always;
location / { proxy_pass http://pinned; }
location /half { proxy_pass http://pinned; proxy_next_upstream http_503; }
location /on/ { gateway on; proxy_pass http://pinned; }
location = /metrics { gateway_metrics; }
--- request
GET /a
--- after_request eval
sub {
    my %seen;
    $seen{get('/a')->{body} =~ /^(\w+)/ ? $1 : ''}++ for 1 .. 40;
    is(CORE::join(' ', sort keys %seen), 'one two', 'both nodes');
    %seen = ();
    $seen{get('/on/a')->{body} =~ /^(\w+)/ ? $1 : ''}++ for 1 .. 20;
    is(CORE::join(' ', sort keys %seen), 'one two', 'also where a route says otherwise');
    is(get('/half')->{status}, 200, 'nginx tries the next one') for 1 .. 10;
    my $text = get('/metrics')->{body};
    like($text, qr/^gateway_upstream_duration_seconds_count\{upstream="pair",/m, 'the nodes are counted');
    is(scalar(() = $text =~ /^gateway_requests_total\{/mg), 1, 'requests without a decision are not');
    like($text, qr/^gateway_active_connections 0$/m, 'nobody is left');
}
--- response_headers
X-Up: pair


=== gateway_balancer NAME: its breaker, its retries, and an edit that removes it
--- gateway
version: 1
upstreams:
  - {name: weak, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], breaker: {failures: 1, open_for: 60s}}
  - {name: gone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
--- http_config
upstream weak { gateway_balancer weak; }
upstream gone { gateway_balancer gone; }
--- config
location / { proxy_pass http://weak; }
location /gone { proxy_pass http://gone; }
--- request eval
["GET /a", "GET /status/500", "GET /a", "GET /gone"]
--- error_code eval
[200, 500, 502, 200]
--- after_request eval
[undef, undef, sub { like(errors(), qr/upstream "weak" of "gateway_balancer" takes nobody: breaker\.open/, 'told') }, sub {
    ok(edit('name: gone', 'name: elsewhere', sub { get('/gone')->{status} == 502 }), 'removed');
    like(errors(), qr/upstream "gone" of "gateway_balancer" takes nobody: upstream\.gone/, 'told');
}]
--- no_error_log
[alert]
[emerg]


=== gateway_balancer: a name that there is not
--- http_config
upstream x { gateway_balancer nobody; }
--- must_die
--- error_log eval
qr/"gateway_balancer": there is no upstream "nobody" in \S+gateway.yaml in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_balancer twice
--- http_config
upstream x { gateway_balancer u; gateway_balancer v; }
--- must_die
--- error_log eval
qr/"gateway_balancer" directive is duplicate in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_balancer beside a zone
--- http_config
upstream x { gateway_balancer u; zone x 64k; }
--- must_die
--- error_log eval
qr/"zone" cannot be used in upstream "x" with "gateway_balancer".* in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_balancer outside of upstream
--- config
location / { gateway_balancer u; }
--- must_die
--- error_log eval
qr/"gateway_balancer" directive is not allowed here in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_debug_headers: on, inherited, off, and the upstream's own give way
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { add_header X-Gateway-Route forged; return 200 "one\n"; } }
--- config
gateway_debug_headers on;
location / { gateway_pass gateway; }
location /guarded/ { gateway_route guarded; root html; }
location /quiet/ { gateway_debug_headers off; gateway_pass gateway; }
location /shadow/ { gateway shadow; gateway_route guarded; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- request eval
["GET /a", "GET /guarded/", "GET /quiet/", "GET /shadow/"]
--- error_code eval
[200, 401, 200, 200]
--- response_headers eval
["X-Gateway-Route: all\nX-Gateway-Upstream: u\nX-Gateway-Decision: forward\n! X-Gateway-Reason",
 "X-Gateway-Route: guarded\n! X-Gateway-Upstream\nX-Gateway-Decision: refuse\nX-Gateway-Reason: auth.missing",
 "X-Gateway-Route: forged\n! X-Gateway-Upstream\n! X-Gateway-Decision",
 "X-Gateway-Route: guarded\nX-Gateway-Decision: refuse\nX-Gateway-Reason: auth.missing"]


=== gateway_debug_headers: neither on nor off
--- config
location / { gateway_debug_headers yes; gateway_pass gateway; }
--- must_die
--- error_log eval
qr/invalid value "yes" in "gateway_debug_headers" directive, it must be "on" or "off" in \S+nginx.conf:\d+/
--- suppress_stderr


=== gateway_debug_headers twice
--- config
location / { gateway_debug_headers on; gateway_debug_headers on; gateway_pass gateway; }
--- must_die
--- error_log eval
qr/"gateway_debug_headers" directive is duplicate in \S+nginx.conf:\d+/
--- suppress_stderr
