# Beside nginx's own modules: subrequests, internal redirects, error pages, `satisfy any`, Lua. A request is limited once
# and counted once, and no way round leads past a guard.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

# Two upstreams, so that it is seen who was asked.
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

our $Log = <<'CONF';
log_format seen '$request_uri $uri $status route=$gateway_route decision=$gateway_decision reason=$gateway_reason limit=$gateway_limit_status';
CONF

package Test::Base::Filter {

    # Lines of the access log that are about `$path`.
    sub logged {
        my $path = shift;
        return scalar(() = accesses() =~ m{^\Q$path\E[ ?]}mg);
    }

    # How many requests the metrics have, all in all.
    sub counted {
        my ($sum, $text) = (0, get("/metrics")->{body});
        $sum += $1 while $text =~ /^gateway_requests_total\{[^}]*\} (\d+)$/mg;
        return $sum;
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth:
  - {name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {headers: {X-User: sub}}}}
  - {name: q, jwt: {issuer: i, audience: b, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}
limiters: [{name: ten, key: [ip], rate: 1/h, burst: 10}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: limited, paths: ["/limited/*"], upstream: u, limits: [ten]}
  - {name: limited2, paths: ["/limited2/*"], upstream: u, limits: [ten]}
  - {name: private, paths: ["/private/*"], upstream: u, auth: [p]}
  - {name: vault, paths: ["/vault/*"], upstream: u, auth: [q]}
  - {name: policy, paths: ["/policy/*"], auth: [p], limits: [ten]}
YAML
    $block->set_value(http_config => "$Log\n" . ($block->http_config // ''));
    $block->set_value(config => "access_log logs/access.log seen;\nadd_header X-Worker \$pid always;\nlocation = /metrics { gateway_metrics; }\n"
        . $block->config) if defined $block->config;
});

run_tests();

__DATA__

=== auth_request: the subrequest runs after our decision, and is no request of its own
--- config
location / { auth_request /check; gateway_pass gateway; }
location = /check { internal; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1$arg_to; proxy_pass_request_body off; proxy_set_header Content-Length ""; }
--- request eval
["GET /a?to=/ok", "GET /a?to=/status/403", "GET /private/?to=/ok", "GET /private/?to=/ok", "POST /limited/?to=/ok\nbody"]
--- more_headers eval
["", "", "", $::Token, ""]
--- error_code eval
[200, 200, 401, 200, 200]
--- response_body_like eval
['^one GET /a\?to=/ok', '^one GET /a', 'auth\.missing', '^one GET /private/', '^one POST /limited/']
--- after_request eval
[undef, undef, undef, undef, sub {
    is(logged('/a'), 2, 'logged once');
    is(counted(), 5, 'counted once');
    like(get('/limited/?to=/ok')->{headers}{ratelimit}, qr/r=8/, 'limited once');
}]


=== auth_request that refuses
--- config
location / { auth_request /check; gateway_pass gateway; }
location = /check { internal; return 403; }
--- request eval
["GET /a", "GET /private/"]
--- error_code eval
[403, 401]


=== auth_request through the gateway: a free route may be asked, a guarded one may not
--- config
location /a { auth_request /check; gateway_pass gateway; }
location /b { auth_request /private/check; gateway_pass gateway; }
location /private/ { auth_request /private/check; gateway_pass gateway; }
location /vault/ { auth_request /private/check; gateway_pass gateway; }
location = /check { internal; gateway_pass gateway; }
location = /private/check { internal; gateway_pass gateway; }
--- request eval
["GET /a", "GET /b", "GET /private/x", "GET /private/x", "GET /b"]
--- more_headers eval
["", "", "", $::Token, $::Token]
--- error_code eval
[200, 401, 401, 200, 401]
--- no_error_log
[alert]
[emerg]


=== mirror: the copy is routed, limited never, logged never, counted never
--- config
location / { mirror /mirror; gateway_pass gateway; }
location = /mirror { internal; proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1/mirrored; }
location /limited/ { mirror /limited2/copy; gateway_pass gateway; }
location = /limited2/copy { internal; gateway_pass gateway; }
--- request eval
["GET /a", "POST /limited/\nbody"]
--- error_code eval
[200, 200]
--- after_request eval
[undef, sub {
    like(get('/limited/')->{headers}{ratelimit}, qr/r=8/, 'limited once');
    is(logged('/limited/'), 2, 'logged once');
    ok(until_true(1, sub { counted() == 3 }), 'counted once');
}]


=== SSI without a decision: what is free is included, what is guarded is not
--- config
location = /page { root html; ssi on; ssi_types *; rewrite ^ /page.txt break; }
location / { gateway_pass gateway; }
--- user_files
>>> page.txt
<!--# include virtual="/a" --><!--# include virtual="/private/a" -->
--- request
GET /page
--- response_body_like: ^one GET /a\n.*401 Authorization Required
--- error_log
subrequest "/private/a" was refused: auth.missing
--- no_error_log
[alert]
[emerg]


=== SSI with a decision: what the main request got past is included, another guard holds
--- config
location / { gateway_pass gateway; ssi on; ssi_types *; }
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "included\n"; }
    location = /private/page { return 200 '<!--# include virtual="/private/a" --><!--# include virtual="/vault/a" -->'; }
}
--- request
GET /private/page
--- more_headers eval
$::Token
--- after_request eval
sub {
    is(counted(), 1, 'counted once');
    is(logged('/private/page'), 1, 'logged once');
}
--- response_body_like
^included\n.*401 Authorization Required((?!included).)*$
--- error_log
subrequest "/vault/a" was refused
--- no_error_log
[alert]
[emerg]


=== try_files and a named location: decided once, limited once, identity sent once
--- config
location / { gateway on; try_files /none @app; }
location /policy/ { gateway on; root html; try_files /there.txt =404; }
location @app { gateway_pass gateway; }
--- user_files
>>> there.txt
there
--- request eval
["GET /limited/x", "GET /limited/x", "GET /private/x", "GET /private/x", "GET /policy/x", "GET /policy/x"]
--- more_headers eval
["", "", "", $::Token, "", $::Token]
--- error_code eval
[200, 200, 401, 200, 401, 200]
--- response_headers eval
["RateLimit: \"ten\";r=9;t=3600", "RateLimit: \"ten\";r=8;t=7200", "! RateLimit", "! RateLimit", "RateLimit: \"ten\";r=7;t=10800", "RateLimit: \"ten\";r=6;t=14400"]
--- response_body_like eval
['^one GET /limited/x', '^one GET /limited/x', 'auth\.missing', '^one GET /private/x', 'auth\.missing', '^there']
--- after_request eval
[undef, undef, undef, undef, undef, sub {
    is(logged('/limited/x'), 2, 'logged once each');
    is(counted(), 6, 'counted once each');
}]


=== a named location that is not ours to enter unguarded
--- config
location / { gateway on; try_files /none @app; }
location @app { gateway off; proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection ""; }
--- request eval
["GET /private/x", "GET /private/x"]
--- more_headers eval
["", $::Token]
--- error_code eval
[401, 200]


=== an internal redirect to another URI is routed anew: no way round a guard
--- config
location / { gateway_pass gateway; }
location /go/ { gateway on; try_files /none /private/x; }
location /free/ { gateway on; try_files /none /vault/x; }
location /two/ { gateway on; rewrite ^/two/(.*) /limited/$1 last; }
location /hop/ { gateway on; try_files /none /limited2/x; }
--- request eval
["GET /go/", "GET /go/", "GET /free/", "GET /two/x", "GET /hop/x", "GET /hop/x"]
--- more_headers eval
["", $::Token, $::Token, "", "", ""]
--- error_code eval
[401, 200, 401, 200, 200, 200]
--- response_headers eval
["! X-Backend", "X-Backend: one", "! X-Backend", "RateLimit: \"ten\";r=9;t=3600", "RateLimit: \"ten\";r=8;t=7200", "RateLimit: \"ten\";r=7;t=10800"]


=== error_page to another route asks that route's policy
--- gateway eval: $::Policy
--- config
location /nowhere/ { root html; error_page 404 /closed/x; }
location /closed/ { gateway_pass gateway; }
--- request eval
["GET /nowhere/1", "GET /nowhere/1"]
--- more_headers eval
["", $::Token]
--- error_code eval
[401, 404]
--- response_body_like eval
["auth.missing", "^two GET /closed/x"]
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
--- gateway eval: $::Policy =~ s/burst: 3/burst: 1/r
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


=== a mirror's copy is routed by itself and thrown away
--- gateway eval: $::Policy
--- config
location /a/ { mirror /other/copy; gateway_pass gateway; }
location /other/ { internal; gateway_pass gateway; }
--- request
GET /a/1
--- response_body
one GET /a/1
--- after_request eval
sub { like(get('/metrics')->{body}, qr/^gateway_upstream_duration_seconds_count\{upstream="v",[^}]*\} 1$/m, 'the copy has arrived') }


=== X-Accel-Redirect: what a backend points at is served, and routed where the gateway is on
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { add_header X-Accel-Redirect $arg_to; return 200; }
    location /private/ { return 200 "private\n"; }
    location /free { return 200 "free\n"; }
}
--- config
location / { gateway_pass gateway; }
location /files/ { internal; root html; }
--- user_files
>>> files/f.txt
file
--- request eval
["GET /a?to=/files/f.txt", "GET /a?to=/private/x", "GET /a?to=/free", "GET /a?to=/private/x", "GET /files/f.txt"]
--- more_headers eval
["", "", "", $::Token, ""]
--- error_code eval
[200, 401, 200, 200, 404]
--- response_body_like eval
['^file', 'auth\.missing', '^free', '^private', '404']


=== error_page: the location's own page for a refusal, and for what a backend answers
--- config
error_page 401 /login.txt;
error_page 429 = @sorry;
location / { gateway_pass gateway; error_page 404 = /limited2/found; proxy_intercept_errors on; }
location /private/ { gateway_pass gateway; }
location /limited/ { gateway_pass gateway; }
location = /login.txt { root html; }
location @sorry { return 200 "later $gateway_reason\n"; }
--- user_files
>>> login.txt
log in here
--- request eval
["GET /private/x", "GET /status/404", ("GET /limited/x") x 9, "GET /limited/x"]
--- error_code eval
[401, 200, (200) x 10]
--- response_body_like eval
['^log in here', '^one GET /limited2/found', ('^one GET /limited/x') x 9, '^later limit\.exceeded']
--- after_request eval
[sub {
    like(accesses(), qr{^/private/x /login.txt 401 route=private decision=refuse reason=auth\.missing}m, 'the log knows');
    is(counted(), 1, 'counted once');
}]


=== satisfy any: a token or a password or an address
--- config
location /private/ { satisfy any; auth_basic "realm"; auth_basic_user_file $TEST_NGINX_SERVER_ROOT/html/users; gateway_pass gateway; }
location /vault/ { satisfy any; allow 127.0.0.1; deny all; gateway_pass gateway; }
location /limited/ { satisfy any; deny all; gateway_pass gateway; }
--- user_files
>>> users
bob:{PLAIN}secret
--- request eval
["GET /private/", "GET /private/", "GET /private/", "GET /private/", "GET /vault/", "GET /limited/"]
--- more_headers eval
["", $::Token, "Authorization: Basic " . MIME::Base64::encode_base64('bob:secret', ''), "Authorization: Basic " . MIME::Base64::encode_base64('bob:guess', ''), "X-User: root", ""]
--- error_code eval
[401, 200, 200, 401, 200, 403]
--- response_body_like eval
['401', '^one', '^one', '401', '^one', '403']
--- no_error_log
[alert]
[emerg]


=== allow and deny of the location still hold
--- config
location / { deny all; gateway_pass gateway; }
location /private/ { allow 127.0.0.1; deny all; gateway_pass gateway; }
--- request eval
["GET /a", "GET /private/", "GET /private/"]
--- more_headers eval
["", "", $::Token]
--- error_code eval
[403, 401, 200]
--- no_error_log
[alert]
[emerg]


=== auth_basic of the same location wants its own
--- config
location / { auth_basic "realm"; auth_basic_user_file $TEST_NGINX_SERVER_ROOT/html/users; gateway_pass gateway; }
--- user_files
>>> users
bob:{PLAIN}secret
--- request eval
["GET /a", "GET /a"]
--- more_headers eval
["", "Authorization: Basic " . MIME::Base64::encode_base64('bob:secret', '')]
--- error_code eval
[401, 200]


=== gateway on a server, off in a location within, on again deeper
--- config
gateway on;
location / { proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection ""; }
location /private/open/ {
    gateway off;
    proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location /private/open/not/ { gateway on; proxy_pass http://gateway; }
}
location /static/ { gateway off; return 200 "static $gateway_route.\n"; }
--- request eval
["GET /a", "GET /private/x", "GET /private/open/x", "GET /private/open/not/x", "GET /static/x"]
--- error_code eval
[200, 401, 200, 401, 200]
--- response_body_like eval
['^one', 'auth\.missing', '^one', 'auth\.missing', '^static \.$']


=== the balancer without a decision serves nobody
--- config
location / { proxy_pass http://gateway; }
--- request
GET /a
--- error_code: 500
--- error_log
"gateway_balancer" was asked for a peer of a request without a decision: its location needs "gateway on"
--- no_error_log
[alert]


=== a route without an upstream: the policy, then what nginx has there
--- config
location /policy/ { gateway on; root html; }
location / { gateway_pass gateway; }
--- user_files
>>> policy/f.txt
content
--- request eval
["GET /policy/f.txt", "GET /policy/f.txt", "POST /policy/f.txt\nabc"]
--- more_headers eval
["", $::Token, $::Token]
--- error_code eval
[401, 200, 405]
--- response_body_like eval
['auth\.missing', '^content', '405']


=== Lua in the same location: it runs after us, sees our variables, and its subrequests are as good as others
--- skip_eval: 12: !lua()
--- main_config
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
--- config
location / {
    access_by_lua_block {
        ngx.req.set_header("X-Seen", (ngx.var.gateway_route or "none") .. " " .. (ngx.var.gateway_decision or "none"))
        if ngx.var.arg_stop then ngx.exit(403) end
    }
    gateway_pass gateway;
}
location /lua { content_by_lua_block { ngx.print(ngx.location.capture("/a").body, ngx.location.capture("/private/a").status) } }
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "$http_x_seen $http_x_user\n"; }
}
--- request eval
["GET /private/x", "GET /private/x", "GET /a?stop=1", "GET /lua"]
--- more_headers eval
["", $::Token, "", ""]
--- error_code eval
[401, 200, 403, 200]
--- response_body_like eval
['auth\.missing', '^private forward ada$', '403', '^.*\n401']
--- no_error_log
[alert]
[emerg]


=== gzip: what a backend answers is compressed as nginx.conf says; a 401 is nothing that nginx compresses
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "one 0123456789012345678901234567890123456789 $http_accept_encoding\n"; }
}
--- config
gzip on;
gzip_types text/plain application/problem+json;
gzip_min_length 20;
gzip_proxied any;
location / { gateway_pass gateway; }
--- request eval
["GET /a", "GET /a", "GET /private/"]
--- more_headers eval
["Accept-Encoding: gzip", "", "Accept-Encoding: gzip"]
--- error_code eval
[200, 200, 401]
--- response_headers eval
["Content-Encoding: gzip", "! Content-Encoding", "! Content-Encoding"]


=== PROXY protocol: the address in front is the client's, for limits and for the backend
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_5 proxy_protocol;
    set_real_ip_from 127.0.0.1;
    real_ip_header proxy_protocol;
    location / { gateway_pass gateway; }
}
--- gateway eval: $::Policy =~ s/burst: 3/burst: 1/r
--- config
location / { gateway_pass gateway; }
--- request
GET /headers
--- after_request eval
sub {
    my $from = sub {
        my ($address, $path) = @_;
        return exchange("PROXY TCP4 $address 127.0.0.1 1000 80\r\nGET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_5', 'port', $Test::Nginx::Util::RandPorts));
    };
    like($from->('192.0.2.7', '/headers'), qr/xff=192\.0\.2\.7 /, 'the backend is told');
    like($from->('192.0.2.7', '/limited/'), qr/^HTTP\/1\.1 200/, 'one passes');
    like($from->('192.0.2.7', '/limited/'), qr/^HTTP\/1\.1 429/, 'no second');
    like($from->('192.0.2.8', '/limited/'), qr/^HTTP\/1\.1 200/, 'another client has its own');
}


=== HTTP/2 in front: the same answers, :authority is the host
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_5 http2; location / { gateway_pass gateway; } }
--- config
location / { gateway_pass gateway; }
--- request
GET /a
--- after_request eval
sub {
    my $port = Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_5', 'port', $Test::Nginx::Util::RandPorts);
    my $curl = sub { scalar qx(curl -sk --http2-prior-knowledge -m 5 -w ' %{http_version} %{http_code}' @_ 2>&1) };
    like($curl->("http://127.0.0.1:$port/a"), qr/^one GET \/a\n 2 200$/, 'forwarded');
    like($curl->("-H 'Host: h.example' http://127.0.0.1:$port/headers"), qr/^host=h\.example /, 'the host');
    like($curl->("http://127.0.0.1:$port/private/"), qr/"code":"auth\.missing".* 2 401$/s, 'refused');
    like($curl->("-d body -H 'Expect: 100-continue' http://127.0.0.1:$port/limited/"), qr/^one POST \/limited\/\n 2 200$/, 'a body');
    like($curl->("-I http://127.0.0.1:$port/a"), qr/^HTTP\/2 200/, 'HEAD');
}
