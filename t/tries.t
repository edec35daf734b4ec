# How long one try may take, whatever the server does meanwhile.

use lib 't';
use Gateway 'no_plan';

use IO::Socket::INET;

# A server that takes connections and then sends a header a byte at a time, for ever; or, `silent`, nothing.
sub dripping {
    my ($silent) = @_;
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16, ReuseAddr => 1) or die;
    my $pid = fork // die;
    if ($pid == 0) {
        $SIG{PIPE} = 'IGNORE';
        my @clients;
        while (1) {
            my $in = '';
            vec($in, fileno($listen), 1) = 1;
            if (select($in, undef, undef, 0.05) and my $client = $listen->accept) {
                push @clients, $client;
                syswrite $client, "HTTP/1.1 200 OK\r\nX-Slow: " if !$silent;
            }
            $silent or syswrite $_, 'x' for @clients;
        }
    }
    add_cleanup_handler(sub { local $?; kill KILL => $pid; waitpid $pid, 0 });
    return $listen->sockport;
}

$ENV{TEST_NGINX_DRIPPING} = dripping();
$ENV{TEST_NGINX_SILENT} = dripping(1);
$ENV{TEST_NGINX_BACKEND} = backend();

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => 'location / { gateway_pass gateway; }') if !defined $block->config;
});

# Requests one after another: their statuses and how long all took, seconds.
sub rounds {
    my ($path, $count, %options) = @_;
    my $start = time;
    my %seen;
    $seen{get($path, %options)->{status}}++ for 1 .. $count;
    return (\%seen, time - $start);
}

run_tests();

__DATA__

=== a server that says nothing, and one that says it slowly, are left for another
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_DRIPPING}, {host: 127.0.0.1, port: $TEST_NGINX_SILENT}, {host: 127.0.0.1, port: $TEST_NGINX_BACKEND}]
    retries: {attempts: 3, per_try_timeout: 150ms, budget: 100%}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /a
--- after_request eval
[sub {
    my ($seen, $took) = main::rounds('/b', 10);
    Test::More::is_deeply($seen, {200 => 10}, 'all are answered');
    Test::More::cmp_ok($took, '<', 10 * 0.5 + 1, "in $took s");
}]
--- error_log
upstream timed out


=== without another server the answer is 504, and it comes in time
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_DRIPPING}], retries: {per_try_timeout: 200ms}, timeouts: {read: 20s}}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
GET /a
--- error_code: 504
--- timeout: 2
--- error_log
upstream timed out


=== a request that may not be sent twice is not
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_SILENT, weight: 1000000}, {host: 127.0.0.1, port: $TEST_NGINX_BACKEND, priority: 1}]
    retries: {attempts: 2, per_try_timeout: 150ms}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- request
POST /a
x
--- error_code: 504
--- error_log
upstream timed out


=== an answer that takes long after its header has come is not cut
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}], retries: {per_try_timeout: 200ms}}]
routes: [{name: all, paths: ["/*"], upstream: u}]
--- http_config
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; location / { limit_rate 20k; } }
--- user_files eval
">>> large\n" . 'x' x 30_000
--- request
GET /large
--- timeout: 10
--- response_body eval
'x' x 30_000
