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
