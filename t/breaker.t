# Breakers: open for every worker at once, probes, closed again. Load is in story/breaker.t.

use lib 't';
use Gateway 'no_plan';

run_tests();

__DATA__

=== failures open it for every worker, no backend is asked, a probe that succeeds closes it
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    location / { if (-f $document_root/fail) { return 500 "no\n"; } return 200 "yes\n"; }
    access_log logs/backend.log;
}
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}], retries: {attempts: 1}, breaker: {failures: 5, window: 10s, open_for: 1s, probes: 1, closes_after: 1}}
routes: [{name: a, paths: ["/*"], upstream: u}]
--- config
location / { gateway_pass gateway; add_header X-Breaker $gateway_breaker_state always; add_header X-Reason $gateway_reason always; }
location = /metrics { gateway_metrics; }
--- user_files
>>> fail
--- request
GET /
--- error_code: 500
--- response_headers
X-Breaker: closed
--- after_request eval
sub {
    get('/') for 1 .. 4;
    my $asked = sub { scalar(() = Gateway::slurp(Gateway::server('root') . '/logs/backend.log') =~ /\n/g) };
    is($asked->(), 5, 'five failures');
    is_deeply(burst(16, '/'), {503 => 16}, 'refused by both workers');
    my $answer = get('/');
    is($answer->{headers}{'retry-after'}, 1, 'with a time to come back');
    is($answer->{headers}{'x-breaker'}, 'open', 'the variable');
    is($answer->{headers}{'x-reason'}, 'breaker.open', 'the reason');
    like($answer->{body}, qr/"code":"breaker\.open"/, 'the body');
    like(get('/metrics')->{body}, qr/^gateway_circuit_breaker_state\{upstream="u"\} 1$/m, 'the metric');
    is($asked->(), 5, 'without asking the backend');

    ok(reload(), 'a reload');
    is(get('/')->{status}, 503, 'does not close it');

    sleep 1.1;
    is(get('/')->{status}, 500, 'the probe fails');
    is(get('/')->{status}, 503, 'and it is open again');
    unlink Gateway::server('root') . '/html/fail' or die;
    sleep 1.1;
    is(get('/')->{status}, 200, 'the probe succeeds');
    is_deeply(burst(8, '/'), {200 => 8}, 'and it is closed for both workers');
}


=== what the client did wrong, and what it did not wait for, is no failure
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 1}, breaker: {failures: 2, window: 10s, open_for: 10s}}]
routes: [{name: a, paths: ["/*"], upstream: u}]
--- request eval
["GET /status/404", "GET /status/400", "GET /status/404", "GET /status/500", "GET /", "GET /status/503", "GET /"]
--- error_code eval
[404, 400, 404, 500, 200, 503, 503]


=== numbers that make no breaker
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 0, probes: 99, open_for: 0s}}
--- must_die
--- error_log eval
["upstreams[0].breaker.failures", "upstreams[0].breaker.probes", "upstreams[0].breaker.open_for"]
