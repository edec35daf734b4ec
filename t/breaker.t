# The breaker: what opens it, that it is one for all workers, whom it lets through afterwards, and what closes it.

use lib 't';
use Gateway 'no_plan';

# One that can be told to be slow.
$ENV{TEST_NGINX_FRAGILE} = backend();

# A server that fails while html/fail is there, and keeps a log of its own.
our $Fragile = <<'CONF';
log_format touched '$request_uri';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    access_log logs/touched.log touched;
    location / {
        root html;
        if (-f $document_root/fail) { return 500 "broken\n"; }
        return 200 "well\n";
    }
    location = /400 { return 400; }
    location = /501 { return 501; }
}
CONF

our $Config = <<'CONF';
add_header X-Worker $pid always;
add_header X-State $gateway_breaker_state always;
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
CONF

sub Test::Base::Filter::failing {
    my $file = Test::Nginx::Socket::html_dir() . '/fail';
    return unlink $file if !shift;
    open my $out, '>', $file or die "$file: $!\n";
    close $out;
}

sub Test::Base::Filter::touched {
    sleep 0.05;
    return scalar(() = Test::Nginx::Util::read_log(Test::Nginx::Socket::server_root() . '/logs/touched.log', 0) =~ /\n/g);
}

# A pipelined request is reported when its connection closes, which may be after its client has read the answer.
sub Test::Base::Filter::opens {
    return until_true(1, sub { get('/metrics')->{body} =~ /^gateway_circuit_breaker_state\{upstream="u"\} 1$/m });
}

add_block_preprocessor(sub {
    my $block = shift;
    my $settings = $block->breaker // 'failures: 10, window: 10s, open_for: 1s, probes: 5, closes_after: 5';
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]
    retries: {attempts: 1}
    breaker: {$settings}
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
    $block->set_value(http_config => $Fragile) if !defined $block->http_config;
    $block->set_value(config => $Config) if !defined $block->config;
});

run_tests();

__DATA__

=== ten failures open it on every worker; nobody is asked; five probes close it
--- request eval
["GET /", "GET /metrics"]
--- after_request eval
[
    sub {
        failing(1);
        is_deeply(burst(9, '/', connections => 3), {500 => 9}, 'nine failures');
        is($_->{status}, 500, 'nine do not open it') for get('/');
        ok(opens(), 'ten do');
        is($_->{status}, 503, 'on each worker') for my @open = each_worker('/');
        my $before = touched();
        is_deeply(burst(50, '/'), {503 => 50}, 'open for all');
        is(touched(), $before, 'nobody is asked');
        is($before, 1 + 10, 'ten failures and what was before them');
        for (@open) {
            is($_->{headers}{'retry-after'}, 1, 'when to come back');
            is($_->{headers}{'x-state'}, 'open', 'the variable');
            like($_->{body}, qr/"status":503,.*"code":"breaker\.open"/, 'the reason');
        }
        like(get('/metrics')->{body}, qr/^gateway_circuit_breaker_state\{upstream="u"\} 1$/m, 'the gauge');

        failing(0);
        ok(until_true(2, sub { get('/')->{status} == 200 }), 'asked again after the open time');
        is($_->{headers}{'x-state'}, 'half-open', 'half-open meanwhile') for get('/');
        is($_->{status}, 200, 'a probe') for map { get('/') } 1 .. 3;
        is($_->{headers}{'x-state'}, 'closed', 'closed for each worker') for each_worker('/');
        is_deeply(burst(50, '/'), {200 => 50}, 'all pass');
    },
]
--- error_code eval
[200, 200]
--- response_body_like eval
['^well', 'gateway_circuit_breaker_state\{upstream="u"\} 0\n']


=== half-open: at most five at once over all workers
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}]
    retries: {attempts: 1}
    breaker: {failures: 3, window: 10s, open_for: 1s, probes: 5, closes_after: 5}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- http_config
--- request
GET /
--- after_request eval
sub {
    my $port = $ENV{TEST_NGINX_FRAGILE};
    get('/fail', port => $port, method => 'POST');
    is_deeply(burst(3, '/', connections => 1), {500 => 3}, 'three failures');
    ok(opens(), 'open it');
    is(get('/')->{status}, 503, 'open');
    get('/heal', port => $port, method => 'POST');
    get('/slow?400', port => $port, method => 'POST');
    sleep 1.05;
    my $began = time;
    is_deeply(burst(40, '/', connections => 40), {200 => 5, 503 => 35}, 'five of forty are let through');
    cmp_ok(time - $began, '<', 0.8, 'all at once');
    get('/heal', port => $port, method => 'POST');
    is_deeply(burst(40, '/', connections => 40), {200 => 40}, 'closed');
}


=== one failed probe opens it again for as long
--- breaker: failures: 2, window: 10s, open_for: 1s, probes: 5, closes_after: 5
--- request
GET /
--- after_request eval
sub {
    failing(1);
    is_deeply(burst(2, '/', connections => 1), {500 => 2}, 'two failures');
    ok(opens(), 'open it');
    is(get('/')->{status}, 503, 'open');
    sleep 1.05;
    is(get('/')->{status}, 500, 'one probe, and it fails');
    my $before = touched();
    is($_->{status}, 503, 'open again on each worker') for each_worker('/');
    sleep 0.8;
    is($_->{status}, 503, 'still, nearly a second later') for each_worker('/');
    is(touched(), $before, 'nobody was asked');
}


=== a share of failures: successes weigh against it, too few calls are no share
--- breaker: failure_ratio: 50%, minimum_calls: 6, window: 10s, open_for: 20s
--- request
GET /
--- after_request eval
sub {
    failing(1);
    is_deeply(burst(4, '/', connections => 2), {500 => 4}, 'four of five are too few calls');
    ok(!opens(), 'closed');
    failing(0);
    is_deeply(burst(4, '/', connections => 2), {200 => 4}, 'now they are four of nine');
    ok(!opens(), 'a success does not open it');
    failing(1);
    is(get('/')->{status}, 500, 'five of ten');
    ok(opens(), 'open it');
    is($_->{status}, 503, 'on each worker') for each_worker('/');
}


=== slow answers are failures, measured at the header
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}]
    breaker: {failures: 2, slow_call: 150ms, open_for: 20s}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- http_config
--- request
GET /
--- after_request eval
sub {
    get('/slow?300', port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST');
    is(get('/')->{status}, 200, 'slow, and whole') for 1, 2;
    ok(opens(), 'two open it');
    is($_->{status}, 503, 'on each worker') for each_worker('/');
    get('/heal', port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST');
}


=== it stays open longer each time that it opens again, and a little longer by chance
--- breaker: failures: 1, window: 10s, open_for: 500ms, open_for_max: 4s, jitter: 20%, probes: 1, closes_after: 1
--- request
GET /
--- after_request eval
sub {
    failing(1);
    is(get('/')->{status}, 500, 'a failure');
    my $before = touched();
    # 500 to 600 ms, then 1000 to 1200, then 2000 to 2400.
    for my $least (0.5, 1, 2) {
        my $opened = time;
        is(get('/')->{status}, 503, 'open');
        sleep $least - 0.1;
        is(get('/')->{status}, 503, "still, nearly $least s later");
        ok(until_true(2, sub { get('/')->{status} == 500 }), 'a probe');
        my $took = time - $opened;
        cmp_ok($took, '<', $least * 1.2 + 0.4, "after $took s, not much more than $least");
    }
    is(touched() - $before, 3, 'three probes and nothing else');
    failing(0);
    # 4 to 4.8 s, less what has passed, rounded up.
    like(get('/')->{headers}{'retry-after'}, qr/^[45]$/, 'the next time is the longest');
}


=== 4xx, 501, refusals of ours and clients that leave are no failures
--- gateway
version: 1
limiters: [{name: none, key: [global], rate: 1/h, burst: 1}]
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}]
    retries: {attempts: 1}
    breaker: {failures: 2, window: 10s, open_for: 5s}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: limited, paths: ["/limited"], upstream: u, limits: [none]}
--- http_config
--- request
GET /
--- after_request eval
sub {
    is_deeply(burst(5, '/status/404'), {404 => 5}, 'a 404');
    is_deeply(burst(5, '/status/429'), {429 => 5}, 'a 429');
    is_deeply(burst(5, '/status/501'), {501 => 5}, 'a 501');
    is_deeply(burst(5, '/limited', connections => 1), {200 => 1, 429 => 4}, 'our own 429');
    get('/slow?300', port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST');
    for (1 .. 4) {
        my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port()) or die;
        print $client "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        $client->flush;
        sleep 0.05;
        close $client;
    }
    sleep 0.4;
    get('/heal', port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST');
    is($_->{headers}{'x-state'}, 'closed', 'closed') for each_worker('/');
    is_deeply(burst(2, '/status/502', connections => 1), {502 => 2}, 'two that count');
    ok(opens(), 'open it');
    is($_->{headers}{'x-state'}, 'open', 'open') for each_worker('/');
}


=== a backend that is gone, or too slow, opens it too
--- gateway
version: 1
upstreams:
  - {name: gone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 1}, breaker: {failures: 2}}
  - {name: slow, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}], retries: {attempts: 1}, breaker: {failures: 2}, timeouts: {read: 100ms}}
routes:
  - {name: gone, paths: ["/gone"], upstream: gone}
  - {name: slow, paths: ["/*"], upstream: slow}
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- request
GET /
--- after_request eval
sub {
    is(CORE::join(' ', map { get('/gone')->{status} } 1 .. 4), '502 502 503 503', 'refused connections');
    get('/slow?500', port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST');
    is(CORE::join(' ', map { get('/')->{status} } 1 .. 4), '504 504 503 503', 'timeouts');
    get('/heal', port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST');
}
--- no_error_log
[alert]


=== a reload and an edit of something else keep it open; an edit of its own settings acts at once
--- breaker: failures: 2, window: 10s, open_for: 20s, probes: 5
--- request
GET /
--- after_request eval
sub {
    failing(1);
    is_deeply(burst(2, '/', connections => 1), {500 => 2}, 'two failures');
    ok(opens(), 'open it');
    failing(0);
    is($_->{status}, 503, 'open') for each_worker('/');
    ok(reload(), 'reload');
    is($_->{status}, 503, 'open after a reload') for each_worker('/');
    ok(edit('routes: [', 'routes: [{name: other, paths: [/other]}, '), 'an edit');
    is($_->{status}, 503, 'open after an edit') for each_worker('/');
    ok(edit(qr/\n    breaker: .*/, '', sub { get('/')->{status} == 200 }), 'no breaker, no refusal');
    is($_->{headers}{'x-state'} // '', '', 'and no state') for each_worker('/');
}


=== misconfigured: zeros, what is not built, a breaker on a route
--- gateway
version: 1
upstreams:
  - {name: a, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 0}}
  - {name: b, nodes: [{host: 127.0.0.1, port: 1}], breaker: {open_for: 0s}}
  - {name: c, nodes: [{host: 127.0.0.1, port: 1}], breaker: {probes: 100000}}
  - {name: d, nodes: [{host: 127.0.0.1, port: 1}], breaker: {half_open_requests: 3}}
  - {name: e, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failure_ratio: half, minimum_calls: 0, open_for_max: 1s, slow_call: 0s, jitter: 200%}}
routes:
  - {name: r, paths: ["/*"], upstream: a, breaker: {failures: 1}}
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: upstreams\[0\]\.breaker\.failures: must be above 0/, qr/gateway\.yaml:4: upstreams\[1\]\.breaker\.open_for: must be above 0/,
 qr/gateway\.yaml:5: upstreams\[2\]\.breaker\.probes: must be at most/, qr/gateway\.yaml:6: upstreams\[3\]\.breaker: unknown field `half_open_requests`; our word is `probes`/,
 qr/gateway\.yaml:7: upstreams\[4\]\.breaker\.failure_ratio: must be a percentage/, qr/gateway\.yaml:7: upstreams\[4\]\.breaker\.minimum_calls: must be above 0/,
 qr/gateway\.yaml:7: upstreams\[4\]\.breaker\.open_for_max: must not be below `open_for`/, qr/gateway\.yaml:7: upstreams\[4\]\.breaker\.slow_call: must be above 0/,
 qr/gateway\.yaml:7: upstreams\[4\]\.breaker\.jitter: must be at most 100%/,
 qr/gateway\.yaml:9: routes\[0\]: unknown field `breaker`; a breaker belongs to its upstream/]
