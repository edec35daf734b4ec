# gateway_health live: this worker runs its event loop and has its place in the region.

use lib 't';
use Gateway 'no_plan';

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
});

run_tests();

__DATA__

=== it is up, whatever the route says
--- request eval
["GET /health", "HEAD /health", "POST /health\nabc", "GET /health?x"]
--- error_code eval
[200, 200, 405, 200]
--- response_headers eval
["Content-Type: application/json\nContent-Length: 16", "Content-Type: application/json", "! X-Backend", "! X-Backend"]
--- response_body_like eval
['^\{"status":"UP"\}$', '^$', '405', '^\{"status":"UP"\}$']


=== on both workers, after a reload, a broken edit and the death of a worker
--- alerts: exited on signal 9
--- request
GET /health
--- after_request eval
sub {
    is($_->{body}, "{\"status\":\"UP\"}\n", 'each worker') for each_worker('/health');
    ok(reload(), 'reload');
    is($_->{status}, 200, 'after a reload') for each_worker('/health');
    document("version: 1\nroutes: 7\n");
    is($_->{status}, 200, 'after a broken edit') for each_worker('/health');
    my ($pid) = worker_pids();
    kill KILL => $pid;
    ok(until_true(5, sub { my @now = worker_pids(); @now == 2 && !grep { $_ == $pid } @now }), 'another worker');
    is($_->{status}, 200, 'each worker') for each_worker('/health');
}
--- no_error_log
[emerg]


=== with no backend at all
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- request
GET /health
--- response_body
{"status":"UP"}


=== misconfigured: what is not built yet
--- config
location / { gateway_health full; }
--- must_die
--- error_log eval
qr/"gateway_health full" is not supported yet in \S+nginx\.conf:\d+/


=== misconfigured: what there is not
--- config
location / { gateway_health alive; }
--- must_die
--- error_log eval
qr/invalid value "alive" of "gateway_health": it must be "live" in \S+nginx\.conf:\d+/


=== misconfigured: nothing
--- config
location / { gateway_health; }
--- must_die
--- error_log eval
qr/invalid number of arguments in "gateway_health" directive in \S+nginx\.conf:\d+/
