# Other modules beside the gateway: subrequests, internal redirects, satisfy, Lua. Each says what happens.

use lib 't';
use Gateway 'no_plan';

our $Secret = 'a secret that is longer than 32 bytes';
our $Good   = jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

$ENV{T_SECRET} = $Secret;
env_to_nginx('T_SECRET');

our $Policy = <<'YAML';
version: 1
auth:
  - {name: people, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}
limiters: [{name: few, key: [ip], rate: 1/m, burst: 3}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: v, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes:
  - {name: open, paths: ["/*"], upstream: u}
  - {name: other, paths: ["/other/*"], upstream: v}
  - {name: closed, paths: ["/closed/*"], upstream: v, auth: [people]}
  - {name: limited, paths: ["/limited/*"], upstream: u, limits: [few]}
  - {name: policy, paths: ["/policy/*"], auth: [people]}
YAML

our $Lua = -f '/usr/lib/nginx/modules/ngx_http_lua_module.so';

run_tests();

__DATA__

=== a route without an upstream is policy alone: what nginx does there follows
--- gateway eval: $::Policy
--- config
location /policy/ { gateway on; return 200 "nginx\n"; }
location /policy/file { gateway on; alias html/; }
--- user_files
>>> a.txt
file
--- request eval
["GET /policy/file/a.txt", "GET /policy/file/a.txt"]
--- more_headers eval
["", "Authorization: Bearer $::Good"]
--- error_code eval
[401, 200]


=== `gateway off` in a nested location, inherited otherwise
--- gateway eval: $::Policy
--- config
location /closed/ { gateway on; root html; location /closed/free/ { gateway off; return 200 "free\n"; } }
--- request eval
["GET /closed/x", "GET /closed/free/x"]
--- error_code eval
[401, 200]


=== auth_request: the subrequest goes through the gateway where its route is open
--- gateway eval: $::Policy
--- config
location /open/ { auth_request /other/check; gateway_pass gateway; }
location /other/ { internal; gateway_pass gateway; }
--- request
GET /open/1
--- response_body
one GET /open/1


=== ... and is refused where its route needs more than the main request passed
--- gateway eval: $::Policy
--- config
location /shut/ { auth_request /closed/check; gateway_pass gateway; }
location /closed/ { internal; gateway_pass gateway; }
--- request
GET /shut/1
--- error_code: 500
--- error_log
subrequest "/closed/check" was refused: its route needs more than the main request passed
--- no_error_log
[alert]


=== a mirror's copy is routed by itself and thrown away
--- gateway eval: $::Policy
--- config
location /a/ { mirror /other/copy; gateway_pass gateway; }
location /other/ { internal; gateway_pass gateway; }
location = /metrics { gateway_metrics; }
--- request
GET /a/1
--- response_body
one GET /a/1
--- after_request eval
sub { like(get('/metrics')->{body}, qr/^gateway_upstream_duration_seconds_count\{upstream="v",[^}]*\} 1$/m, 'the copy has arrived') }


=== SSI
--- gateway eval: $::Policy
--- config
location = /page { ssi on; default_type text/html; root html; }
location /other/ { gateway_pass gateway; }
location /closed/ { gateway_pass gateway; }
--- user_files
>>> page
a <!--# include virtual="/other/b" --> c
--- request
GET /page
--- response_body_like: ^a two GET /other/b


=== try_files to a named location: routed once more, no limit twice
--- gateway eval: $::Policy
--- config
location /limited/ { gateway on; try_files /nowhere @app; }
location @app { gateway_pass gateway; }
--- request eval
["GET /limited/1", "GET /limited/2", "GET /limited/3", "GET /limited/4"]
--- error_code eval
[200, 200, 200, 429]


=== error_page has the last word on a refusal, and its own location its own policy
--- gateway eval: $::Policy
--- config
location /closed/ { error_page 401 /login; gateway_pass gateway; }
location = /login { return 200 "please log in\n"; }
--- request
GET /closed/1
--- error_code: 401
--- response_body
please log in


=== error_page to another route asks that route's policy
--- gateway eval: $::Policy
--- config
location /nowhere/ { root html; error_page 404 /closed/x; }
location /closed/ { gateway_pass gateway; }
--- request eval
["GET /nowhere/1", "GET /nowhere/1"]
--- more_headers eval
["", "Authorization: Bearer $::Good"]
--- error_code eval
[401, 404]
--- response_body_like eval
["auth.missing", "^two GET /closed/x"]
--- no_error_log
[alert]


=== satisfy any: a token or a password
--- gateway eval: $::Policy
--- config
location /closed/ { satisfy any; auth_basic "a"; auth_basic_user_file ../html/passwd; gateway_pass gateway; }
--- user_files
>>> passwd
ada:{PLAIN}secret
--- request eval
["GET /closed/1", "GET /closed/1", "GET /closed/1"]
--- more_headers eval
["", "Authorization: Bearer $::Good", "Authorization: Basic YWRhOnNlY3JldA=="]
--- error_code eval
[401, 200, 200]
--- no_error_log
[alert]


=== allow and deny of the same location come after the gateway, and both must agree
--- gateway eval: $::Policy
--- config
location /closed/ { deny all; gateway_pass gateway; }
location / { allow 127.0.0.1; deny all; gateway_pass gateway; }
--- request eval
["GET /closed/1", "GET /closed/1", "GET /a"]
--- more_headers eval
["", "Authorization: Bearer $::Good", ""]
--- error_code eval
[401, 403, 200]
--- no_error_log
[alert]


=== limit_req and the gateway's limits are independent
--- http_config
limit_req_zone $binary_remote_addr zone=z:1m rate=1r/m;
--- gateway eval: $::Policy
--- config
location / { limit_req zone=z burst=1 nodelay; gateway_pass gateway; }
--- request eval
["GET /a", "GET /a", "GET /a"]
--- error_code eval
[200, 200, 503]
--- no_error_log
[alert]


=== realip: the address that it leaves is the client's
--- gateway eval: $::Policy =~ s/few, key: \[ip\], rate: 1\/m, burst: 3/few, key: [ip], rate: 1\/m, burst: 1/r
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Client;
location / { gateway_pass gateway; }
--- request eval
["GET /limited/1", "GET /limited/1", "GET /limited/1", "GET /headers"]
--- more_headers eval
["X-Client: 192.0.2.1", "X-Client: 192.0.2.1", "X-Client: 192.0.2.2", "X-Client: 192.0.2.3"]
--- error_code eval
[200, 429, 200, 200]
--- response_body_like eval
[".", ".", ".", "xff=192.0.2.3 "]
