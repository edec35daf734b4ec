# Overload control: what is above the limit is refused, the lowest priority first; in shadow mode it is only counted.

use lib 't';
use Gateway 'no_plan';

# One that can be told to be slow.
$ENV{TEST_NGINX_SLOW} = backend();

sub Test::Base::Filter::metric {
    my $name = shift;
    return get('/metrics')->{body} =~ /^\Q$name\E\{upstream="u"\} (\S+)$/m ? $1 : undef;
}

add_block_preprocessor(sub {
    my $block = shift;
    my $overload = $block->overload // '{mode: enforce, min: 4, max: 4}';
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
auth: [{name: keys, optional: true, api_key: {header: X-Key}}]
consumers: [{name: gold, priority: 5, api_key: a-key-of-gold-that-is-long-enough-0123456789}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_SLOW}], overload: $overload}
routes: [{name: all, paths: ["/*"], upstream: u, auth: [keys]}]
YAML
});

run_tests();

__DATA__

=== four at a time over both workers; the fifth is refused and told when to come back
--- request
GET /x
--- after_request eval
sub {
    get('/slow?500', method => 'POST');
    my $seen = burst(12, '/x', connections => 12);
    get('/heal', method => 'POST');
    # Of two workers that look at the same instant one may let in one more.
    my $most = delete $seen->{200};
    ok($most == 4 || $most == 5, "four of twelve: $most");
    is_deeply($seen, {503 => 12 - $most}, 'the others are refused');
    is(metric('gateway_overload_in_flight'), 0, 'nobody waits any more');
    is(metric('gateway_overload_limit'), 4, 'limit');
    is(metric('gateway_overload_shed_total'), 12 - $most, 'counted');
    is(get('/x')->{status}, 200, 'free again');
    ok(reload(), 'reload');
    is(metric('gateway_overload_shed_total'), 12 - $most, 'the counter lives');
}
--- timeout: 20


=== in shadow mode nobody is refused
--- overload: {mode: shadow, min: 4, max: 4}
--- request
GET /x
--- after_request eval
sub {
    get('/slow?300', method => 'POST');
    is_deeply(burst(12, '/x', connections => 12), {200 => 12}, 'all of twelve');
    get('/heal', method => 'POST');
    like(metric('gateway_overload_shed_total'), qr/^[78]$/, 'counted');
}
--- timeout: 20


=== a killed worker's requests are no load
--- alerts: exited on signal 9
--- request
GET /x
--- after_request eval
sub {
    my @sockets = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_SERVER_PORT}) } 1 .. 8;
    get('/slow?20000', method => 'POST');
    print {$_} "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n" for @sockets;
    ok(until_true(3, sub { metric('gateway_overload_in_flight') =~ /^[45]$/ }), 'four wait');
    is(get('/x')->{status}, 503, 'the fifth does not');
    kill KILL => worker_pids();
    ok(until_true(5, sub { (metric('gateway_overload_in_flight') // 9) == 0 }), 'nobody waits');
    is(get('/heal', method => 'POST')->{status}, 200, 'free again');
    is(get('/x')->{status}, 200, 'and for all');
}
--- no_error_log
[emerg]
--- timeout: 30


=== misconfigured: no mode
--- overload: {max: 5}
--- must_die
--- error_log
upstreams[0].overload: needs `mode`


=== misconfigured: numbers
--- overload: {mode: enforce, min: 9, max: 5, tolerance: 1}
--- must_die
--- error_log
upstreams[0].overload.tolerance: must be at least 2
upstreams[0].overload.max: must be at least `min`, which is 9


=== misconfigured: words of others
--- overload: {mode: enforce, min_limit: 3}
--- must_die
--- error_log
our word is `min`
