# What nginx says about a configuration that cannot work: file, line, and what would be right. Nothing starts.

use lib 't';
use Gateway 'no_plan';

env_to_nginx('T_SECRET');
$ENV{T_SECRET} = 'a secret that is longer than 32 bytes';

run_tests();

__DATA__

=== a zone too small
--- http_config
gateway_zone main 64k;
gateway_config /dev/null;
--- config
--- must_die
--- error_log eval
qr/\[emerg\].*zone "main" of 65536 bytes is too small: "gateway_zone" needs at least 1048576 bytes in .*nginx\.conf:\d+/


=== a document that does not fit: the error says which zone would do
--- http_config
gateway_zone main 1m;
--- gateway eval
"version: 1\nroutes:\n" . CORE::join '', map { "  - {name: route-number-$_, paths: [\"/a/rather/long/path/$_/*\"]}\n" } 1 .. 4000
--- must_die
--- error_log eval
qr/\[emerg\].*gateway\.yaml: .*does not fit into the zone.*one of \d+m would do/


=== a size that is none
--- http_config
gateway_zone main lots;
--- config
--- must_die
--- error_log
invalid size "lots" of "gateway_zone"


=== two zones
--- http_config
gateway_zone main 4m;
gateway_zone other 4m;
--- config
--- must_die
--- error_log
"gateway_zone" directive is duplicate


=== two documents
--- http_config
gateway_zone main 4m;
gateway_config a.yaml;
gateway_config b.yaml;
--- config
--- must_die
--- error_log
"gateway_config" directive is duplicate


=== a location without a zone
--- config
location / { gateway on; return 200; }
--- must_die
--- error_log
"gateway" needs "gateway_zone" in the "http" block


=== a zone without a document
--- http_config
gateway_zone main 4m;
upstream gateway { gateway_balancer; }
--- config
location / { gateway_pass gateway; }
--- must_die
--- error_log
"gateway_pass" needs "gateway_config" in the "http" block


=== a document that is not there
--- http_config
gateway_zone main 4m;
gateway_config nowhere.yaml;
--- config
--- must_die
--- error_log eval
qr/\[emerg\].*nowhere\.yaml: cannot be read: No such file/


=== the balancer behind keepalive
--- http_config
upstream gateway { keepalive 4; gateway_balancer; }
--- gateway
version: 1
--- must_die
--- error_log
"gateway_balancer" must stand before "keepalive"


=== a zone in the balancer's upstream
--- http_config
upstream gateway { zone u 64k; gateway_balancer; }
--- gateway
version: 1
--- must_die
--- error_log
"zone" cannot be used in upstream "gateway" with "gateway_balancer"


=== servers before the balancer
--- http_config
upstream gateway { server 127.0.0.1:1; gateway_balancer; }
--- gateway
version: 1
--- must_die
--- error_log
"server" has no meaning beside "gateway_balancer"


=== servers behind the balancer
--- http_config
upstream gateway { gateway_balancer; server 127.0.0.1:1; }
--- gateway
version: 1
--- must_die
--- error_log
"server" has no meaning in upstream "gateway" with "gateway_balancer"


=== a health that is not built yet
--- config
location / { gateway_health full; }
--- must_die
--- error_log
"gateway_health full" is not supported yet


=== a health that is none
--- config
location / { gateway_health alive; }
--- must_die
--- error_log
invalid value "alive" of "gateway_health": it must be "live"


=== a name that no upstream block can have
--- config
location / { gateway_pass http://gateway; }
--- must_die
--- error_log
invalid upstream "http://gateway" in "gateway_pass": name an upstream block


=== an upstream without nodes, and all other mistakes at once
--- gateway
version: 1
upstreams:
  - {name: u, nodes: []}
  - {name: w, nodes: [{host: 127.0.0.1, port: 99999}]}
routes:
  - {name: a, path: ["/*"], upstream: u}
  - {name: b, paths: ["/b"], upstream: v}
--- must_die
--- error_log eval
["gateway.yaml:3: upstreams[0].nodes", "gateway.yaml:4: upstreams[1].nodes[0].port", "gateway.yaml:6: routes[0]: unknown field `path`, did you mean `paths`?", "gateway.yaml:7: routes[1].upstream"]


=== a secret that is not there
--- gateway
version: 1
auth: [{name: a, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_NOT_SET"}]}}]
--- must_die
--- error_log eval
qr/\[emerg\].*gateway\.yaml:2: auth\[0\]\.jwt\.keys\[0\]\.secret: .*T_NOT_SET/


=== a secret whose file cannot be read
--- gateway
version: 1
auth: [{name: a, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$file:///nowhere/secret"}]}}]
--- must_die
--- error_log eval
qr{\[emerg\].*gateway\.yaml:2: auth\[0\]\.jwt\.keys\[0\]\.secret: .*/nowhere/secret}


=== what is not built yet is refused by name
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes: [{name: a, paths: ["/*"], upstream: u, canary: {variants: []}}]
--- must_die
--- error_log eval
qr/gateway\.yaml:3: routes\[0\]\.canary: .*not supported yet/


=== an edit is live on both workers within a second; a broken one is told with its line and changes nothing
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/a"], upstream: u}]
--- request
GET /a
--- after_request eval
sub {
    ok(edit('"/a"', '"/b"', sub { (burst(16, '/b')->{200} // 0) == 16 }), 'live on both workers within a second');
    is(get('/a')->{status}, 404, 'the old path is gone');
    edit('paths', 'path');
    sleep 1;
    is_deeply(burst(16, '/b'), {200 => 16}, 'the last good document stays, on both workers');
}
--- error_log eval
["gateway.yaml:3: routes[0]: unknown field `path`, did you mean `paths`?", qr/gateway\.yaml: generation 2, 1 objects written, 0 removed/]
--- no_error_log
[alert]
[emerg]


=== a reload with a broken document keeps the old configuration
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: a, paths: ["/a"], upstream: u}]
--- request
GET /a
--- after_request eval
sub {
    my @before = worker_pids();
    edit('upstream: u', 'upstream: v');
    kill HUP => Gateway::master();
    sleep 1;
    is("@{[worker_pids()]}", "@before", 'the same workers');
    is(get('/a')->{status}, 200, 'the old policy');
}
--- error_log eval
qr/\[emerg\].*gateway\.yaml:3: routes\[0\]\.upstream: no upstream is called/
--- no_error_log
[alert]
