# Which server gets a request, and what happens when it does not answer.

use lib 't';
use Gateway 'no_plan';

# Takes connections and never says a word.
our $Silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16) or die "$!\n";

run_tests();

__DATA__

=== shares follow weights
--- gateway
version: 1
upstreams:
  - name: u
    nodes:
      - {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1, weight: 9}
      - {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, weight: 1}
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    my %seen;
    $seen{get('/')->{headers}{'x-backend'}}++ for 1 .. 300;
    # Both answer within microseconds of one another, but not exactly: twice the weight either way is too much.
    cmp_ok($seen{one} / 300, '>', 0.75, 'most go to the heavy one');
    cmp_ok($seen{two}, '>', 0, 'some to the light one');
}


=== a node that refuses connections costs no client an error, whatever the method, and gets little
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: 1}], retries: {budget: 100%}}]
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    my %seen;
    $seen{get('/', method => $_ % 2 ? 'POST' : 'GET', body => $_ % 2 ? 'x' : '')->{status}}++ for 1 .. 60;
    is_deeply(\%seen, {200 => 60}, 'connect failures are tried again for any method');
}
--- no_error_log
[alert]


=== http_503 is tried again elsewhere; when tries end, the last real response is the answer
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; location / { return 503 "three is busy\n"; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4; location / { return 503 "four is busy\n"; } }
--- gateway
version: 1
upstreams:
  - {name: some, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}], retries: {budget: 100%}}
  - {name: none, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_4}], retries: {budget: 100%}}
  - {name: once, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_4}], retries: {attempts: 1}}
routes:
  - {name: some, paths: ["/some"], upstream: some}
  - {name: none, paths: ["/none"], upstream: none}
  - {name: once, paths: ["/once"], upstream: once}
--- request eval
["GET /some", "GET /some", "GET /some", "GET /none", "GET /once"]
--- error_code eval
[200, 200, 200, 503, 503]
--- response_body_like eval
["^one", "^one", "^one", "^(three|four) is busy", "^(three|four) is busy"]


=== POST is not sent twice once it was sent, unless the document says so
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; location / { return 503 "busy\n"; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4; location / { return 503 "busy\n"; } }
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_4}]}
  - {name: all, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_4}], retries: {methods: all}}
routes:
  - {name: a, paths: ["/a"], upstream: u}
  - {name: b, paths: ["/b"], upstream: all}
--- config
location / { gateway_pass gateway; add_header X-Tries $upstream_addr always; }
--- request eval
["POST /a\nx", "GET /a", "POST /b\nx"]
--- error_code eval
[503, 503, 503]
--- response_headers_like eval
['X-Tries: [^,]+$', 'X-Tries: [^,]+, [^,]+$', 'X-Tries: [^,]+, [^,]+$']


=== backups serve when nobody else does
--- gateway
version: 1
upstreams:
  - {name: up, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}]}
  - {name: down, nodes: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}], retries: {budget: 100%}}
routes:
  - {name: up, paths: ["/up"], upstream: up}
  - {name: down, paths: ["/down"], upstream: down}
--- request eval
[("GET /up") x 5, ("GET /down") x 5]
--- response_body_like eval
[("^one") x 5, ("^two") x 5]
--- no_error_log
[alert]


=== the read timeout of the route; one node, so its failure is the answer
--- gateway eval
"version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: " . $::Silent->sockport . "}]}]
routes: [{name: a, paths: [\"/*\"], upstream: u, timeouts: {read: 200ms}}]
"
--- request
GET /
--- error_code: 504
--- no_error_log
[alert]


=== the Host that is sent: the client's, with its port, or the upstream's own
--- gateway
version: 1
upstreams:
  - {name: own, host: "backend.internal:8443", nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: keep, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: own, hosts: [a.example], paths: ["/*"], upstream: own}
  - {name: keep, paths: ["/*"], upstream: keep}
--- request eval
["GET /headers", "GET /headers"]
--- more_headers eval
["Host: a.example:8080", "Host: b.example:8080"]
--- response_body_like eval
["^host=backend.internal:8443 ", "^host=b.example:8080 "]


=== connections are kept: a hundred requests over a handful
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; location / { return 200 "$connection\n"; } }
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}]}]
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    my %seen;
    $seen{get('/')->{body}}++ for 1 .. 100;
    cmp_ok(scalar keys %seen, '<=', 4, 'one connection a worker, more or less');
}


=== a kept connection that the server has closed is no failure
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3; keepalive_timeout 1s; location / { return 200 "three\n"; } }
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}], breaker: {failures: 1, window: 10s, open_for: 10s}}]
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request
GET /
--- after_request eval
sub {
    for my $round (1 .. 2) {
        get('/') for 1 .. 4;
        sleep 1.2;
    }
    is_deeply(burst(8, '/'), {200 => 8}, 'nobody notices');
}
--- no_error_log
[alert]


=== nodes change with an edit, and after a reload they are the edited ones
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2, priority: 1}]}]
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request
GET /
--- response_body_like: ^one
--- after_request eval
sub {
    ok(edit(qr/\{host: 127\.0\.0\.1, port: \d+\}, /, '', sub { get('/')->{body} =~ /^two/ }), 'the first node goes');
    like(get('/')->{body}, qr/^two/, 'on every worker') for 1 .. 8;
    ok(reload(), 'reload');
    like(get('/')->{body}, qr/^two/, 'still');
}
