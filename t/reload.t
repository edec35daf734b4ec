# What a reload and the death of a process leave as it was, and what they must not take along.

use lib 't';
use Gateway 'no_plan';

our $Document = <<'YAML';
version: 1
limiters: [{name: few, key: [ip], rate: 1/h, burst: 5}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: f, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 1}, breaker: {failures: 3, open_for: 60s}}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: limited, paths: ["/limited"], upstream: u, limits: [few]}
  - {name: fragile, paths: ["/status/500"], upstream: f}
YAML

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => $Document) if !defined $block->gateway;
});

# Sections marked `eval` are evaluated in this package.
package Test::Base::Filter {

    # The value of a counter.
    sub counted {
        my ($labels) = @_;
        return get('/metrics')->{body} =~ /^gateway_requests_total\{\Q$labels\E\} (\d+)$/m ? $1 : 0;
    }

    # A limit that is spent, a breaker that is open, ten requests that are counted.
    sub used {
        is_deeply(burst(10, '/limited'), {200 => 5, 429 => 5}, 'a limit is spent');
        is_deeply(burst(3, '/status/500', connections => 1), {500 => 3}, 'three failures');
        ok(until_true(1, sub { get('/metrics')->{body} =~ /^gateway_circuit_breaker_state\{upstream="f"\} 1$/m }), 'a breaker opens');
        is_deeply(burst(10, '/'), {200 => 10}, 'ten requests');
        ok(until_true(1, sub { counted('route="all",method="GET",status="200"') == 11 }), 'counted, with the first');
    }

    sub kept {
        my $after = shift;
        is($_->{status}, 429, "the limit, after $after") for each_worker('/limited');
        is($_->{status}, 503, "the breaker, after $after") for each_worker('/status/500');
        is(counted('route="all",method="GET",status="200"'), 11, "the counters, after $after");
    }

    # One process less, and another in its place.
    sub killed {
        my $pid = shift;
        my @before = worker_pids();
        kill KILL => $pid;
        ok(until_true(5, sub { my @now = worker_pids(); @now == 2 && !grep { $_ == $pid } @now }), 'another worker in its place');
    }

    # The process that leads, as the log has it.
    sub leader {
        return (errors() =~ /(\d+)#\d+: gateway: this process leads/g)[-1];
    }
}

run_tests();

__DATA__

=== a reload keeps limits, breakers and counters, ten times over
--- request
GET /
--- after_request eval
sub {
    used();
    ok(reload(), "reload $_") for 1 .. 9;
    kept('ten reloads') if reload();
}


=== kill -9 of each worker keeps them, too
--- alerts: exited on signal 9
--- request
GET /
--- after_request eval
sub {
    used();
    killed($_) for worker_pids();
    kept('two deaths');
    is_deeply(burst(20, '/'), {200 => 20}, 'and all goes on');
}
--- no_error_log
[emerg]


=== kill -9 of the leader: another one leads, and edits are live
--- alerts: exited on signal 9
--- request
GET /
--- after_request eval
sub {
    used();
    my $leader = leader();
    kill KILL => $leader;
    ok(until_true(5, sub { leader() != $leader }), 'another one leads');
    kept('the death of the leader');
    ok(edit('name: all, paths', 'name: all, labels: {a: b}, paths'), 'an edit');
    ok(until_true(2, sub { edit('paths: ["/limited"], upstream: u, limits: [few]', 'paths: ["/limited"], upstream: u', sub { get('/limited')->{status} == 200 }) }),
        'is live');
}
--- no_error_log
[emerg]


=== a document that changed with the reload is live after it
--- request
GET /
--- after_request eval
sub {
    edit('paths: ["/limited"]', 'paths: ["/other"]', sub { 1 });
    ok(reload(), 'reload');
    ok(until_true(1, sub { get('/other')->{headers}{'x-route'} eq 'limited' }), 'within a second');
    is($_->{headers}{'x-route'}, 'limited', 'on each worker') for each_worker('/other');
}


=== a reload with a bad document keeps the old configuration, and the next one takes
--- request
GET /
--- after_request eval
sub {
    used();
    my @workers = worker_pids();
    edit('upstream: u, limits', 'upstrem: u, limits', sub { 1 });
    kill HUP => master();
    ok(until_true(3, sub { errors() =~ /\[emerg\].*gateway\.yaml:8: routes\[1\]: unknown field `upstrem`, did you mean `upstream`\?/ }), 'refused, with the line');
    is_deeply([worker_pids()], \@workers, 'the same workers');
    kept('a refused reload');
    edit('upstrem: u, limits', 'upstream: u, limits', sub { 1 });
    ok(reload(), 'reload');
    kept('a reload');
}
--- no_error_log
[alert]


=== requests in flight are answered by the old workers, and are counted
--- gateway eval
$ENV{TEST_NGINX_SLOW} = backend();
$::Document =~ s/port: \S+1\}\], retries/port: $ENV{TEST_NGINX_SLOW}}], retries/r =~ s/status.500/slow/r
--- request
GET /
--- after_request eval
sub {
    my $port = $ENV{TEST_NGINX_SLOW};
    get('/slow?700', port => $port, method => 'POST');
    my @clients = map {
        my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port()) or die;
        print $client "GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        $client->flush;
        $client;
    } 1 .. 6;
    sleep 0.1;
    ok(reload(), 'reload');
    for my $client (@clients) {
        my $text = CORE::join '', <$client>;
        like($text, qr/^HTTP\S+ 200 /, 'answered');
    }
    ok(until_true(1, sub { counted('route="fragile",method="GET",status="200"') == 6 }), 'counted');
    like(get('/metrics')->{body}, qr/^gateway_active_connections 0$/m, 'and nobody is left');
}


=== a zone of another size is a new one
--- http_config
gateway_zone main 8m;
--- request
GET /
--- after_request eval
sub {
    used();
    my $conf = Test::Nginx::Socket::server_root() . '/conf/nginx.conf';
    Test::Nginx::Util::write_file($conf, Test::Nginx::Util::read_log($conf, 0) =~ s/gateway_zone main 8m/gateway_zone main 16m/r);
    ok(reload(), 'reload');
    is_deeply(burst(10, '/limited'), {200 => 5, 429 => 5}, 'the limit is fresh');
    is($_->{status}, 200, 'and all goes on') for each_worker('/');
    ok(edit('name: limited', 'name: renamed', sub { get('/limited')->{headers}{'x-route'} eq 'renamed' }), 'with edits');
}
