# What clients get where an upstream cannot serve: the route's answer, another upstream, what the cache still has.

use lib 't';
use Gateway 'no_plan';

$ENV{TEST_NGINX_FRAGILE} = backend();
$ENV{TEST_NGINX_OTHER}   = backend();

our $Config = <<'CONF';
add_header X-Decision $gateway_decision always;
add_header X-Reason $gateway_reason always;
add_header X-Upstream $gateway_upstream always;
add_header X-State $gateway_breaker_state always;
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
CONF

# The state of the breaker of "u", as a scrape has it.
sub Test::Base::Filter::breaker_is {
    my $state = shift;
    return until_true(1, sub { get('/metrics')->{body} =~ /^gateway_circuit_breaker_state\{upstream="u"\} $state$/m });
}

sub Test::Base::Filter::fragile { return get(shift, port => $ENV{TEST_NGINX_FRAGILE}, method => 'POST') }

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => $Config) if !defined $block->config;
    $block->set_value(no_error_log => "[alert]\n[emerg]") if !defined $block->no_error_log && !defined $block->must_die;
});

run_tests();

__DATA__

=== an answer of the route: with the breaker open, with nobody there, with one that is too slow
--- gateway
version: 1
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}]
    breaker: {failures: 2, open_for: 20s}
    fallback: {body: {error: later}, headers: {X-From: upstream}}
  - {name: gone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: slow, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}], timeouts: {read: 200ms}}
defaults: {fallback: {status: 200, body: "by default\n"}}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: mine, paths: ["/mine/*"], upstream: u, fallback: {status: 203, body: "mine\n", headers: {Content-Type: text/x-mine}}}
  - {name: gone, paths: ["/gone"], upstream: gone, cors: {origins: ["https://a.example"]}}
  - {name: slow, paths: ["/slow"], upstream: slow}
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- request
GET /
--- more_headers
Accept: */*
--- after_request eval
sub {
    is($_->{headers}{'x-decision'}, 'forward', 'nothing to fall back from') for get('/');
    is(get('/status/500')->{status}, 500, 'a real answer is the answer') for 1, 2;
    ok(breaker_is(1), 'two open the breaker');
    for (get('/')) {
        is($_->{status}, 503, 'the answer of the upstream: its status');
        is($_->{body}, '{"error":"later"}', 'its body');
        is($_->{headers}{'content-type'}, 'application/json', 'an object is JSON');
        is($_->{headers}{'x-from'}, 'upstream', 'its headers');
        like($_->{headers}{'retry-after'}, qr/^(?:19|20)$/, 'when to come back');
        is("$_->{headers}{'x-decision'} $_->{headers}{'x-reason'} $_->{headers}{'x-state'}", 'fallback breaker.open open', 'variables');
    }
    for (get('/mine/x')) {
        is($_->{status}, 203, 'the route goes before the upstream');
        is($_->{headers}{'content-type'}, 'text/x-mine', 'its type');
        is($_->{headers}{'retry-after'}, undef, 'no time to come back where it is no 503');
    }
    is_deeply(burst(20, '/mine/y'), {203 => 20}, 'on kept connections of all workers');
    for (get('/gone', headers => 'Origin: https://a.example')) {
        is($_->{status}, 200, 'nobody is there: by default');
        is($_->{body}, "by default\n", 'the whole body');
        is($_->{headers}{'content-length'}, 11, 'and its length');
        is("$_->{headers}{'x-decision'} $_->{headers}{'x-reason'}", 'fallback upstream.failed', 'variables');
        is($_->{headers}{'access-control-allow-origin'}, 'https://a.example', 'headers of any answer');
    }
    is(get('/gone', method => 'HEAD')->{body} // '', '', 'no body for HEAD');
    is_deeply(burst(20, '/gone', connections => 2), {200 => 20}, 'connections are kept');
    is(get('/gone', method => 'POST', body => 'x' x 100_000)->{status}, 200, 'with a body');
    fragile('/slow?1000');
    for (get('/slow')) {
        is($_->{status}, 200, 'too slow');
        is("$_->{headers}{'x-decision'} $_->{headers}{'x-reason'}", 'fallback upstream.timeout', 'variables');
    }
    is(get('/slow', method => 'POST', body => 'x')->{status}, 200, 'for any method');
    fragile('/heal');
}


=== another upstream, for the access phase, for failed tries, with its own Host, and once
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}], breaker: {failures: 2, open_for: 20s}, fallback: {upstream: other}}
  - {name: other, host: other.example, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_OTHER}], fallback: {status: 200, body: never}}
  - {name: gone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.2, port: $TEST_NGINX_RAND_PORT_1}], breaker: {failures: 1000}}
  - {name: slow, host: slow.example, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}], timeouts: {read: 200ms}, retries: {attempts: 3, on: [error]}}
  - {name: nobody, nodes: [{host: nobody.invalid, port: 1}]}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: gone, paths: ["/gone/*"], upstream: gone, fallback: {upstream: other}}
  - {name: both, paths: ["/both"], upstream: gone, fallback: {upstream: nobody}}
  - {name: slow, paths: ["/slow"], upstream: slow, fallback: {upstream: other}}
  - {name: nobody, paths: ["/nobody"], upstream: nobody, fallback: {upstream: other}}
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- request
GET /
--- after_request eval
sub {
    is(get('/status/500')->{status}, 500, 'a real answer is the answer') for 1, 2;
    ok(breaker_is(1), 'two open the breaker');
    for (get('/a?b=c')) {
        is("$_->{status} $_->{headers}{'x-backend'}", "200 $ENV{TEST_NGINX_OTHER}", 'the other serves');
        is("$_->{headers}{'x-decision'} $_->{headers}{'x-reason'} $_->{headers}{'x-upstream'}", 'fallback breaker.open other', 'variables');
        like($_->{body}, qr/"host": ?"other\.example"/, 'under its own name');
        like($_->{body}, qr{"path": ?"/a\?b=c"}, 'the same request');
    }
    is(get('/status/503')->{status}, 503, 'what it says is the end');
    for (get('/gone/x'), get('/gone/x', method => 'POST', body => 'y' x 50_000), get('/nobody')) {
        is("$_->{status} $_->{headers}{'x-backend'}", "200 $ENV{TEST_NGINX_OTHER}", 'nobody is there: the other serves');
        is($_->{headers}{'x-upstream'}, 'other', 'as the variable says');
        like($_->{body}, qr/"host": ?"other\.example"/, 'under its own name');
    }
    like(get('/gone/x', method => 'POST', body => 'y' x 50_000)->{body}, qr/"bytes": ?50000/, 'with its body');
    is_deeply(burst(20, '/gone/y'), {200 => 20}, 'again and again');
    is(get('/both')->{status}, 502, 'both are gone');
    fragile('/slow?1000');
    my $began = time;
    for (get('/slow')) {
        is("$_->{status} $_->{headers}{'x-backend'}", "200 $ENV{TEST_NGINX_OTHER}", 'too slow: the other serves');
        like($_->{body}, qr/"host": ?"other\.example"/, 'under its own name, not the first one\'s');
        is($_->{headers}{'x-reason'}, 'upstream.failed', 'why');
    }
    cmp_ok(time - $began, '<', 0.6, 'after one try: timeouts are not tried again');
    is(get('/slow', method => 'POST', body => 'x')->{status}, 504, 'what cannot be sent twice is not');
    fragile('/heal');
}


=== what the cache still has, and else the refusal
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_FRAGILE}], breaker: {failures: 2, open_for: 20s}, fallback: {stale: true}}
routes: [{name: all, paths: ["/*"], upstream: u}]
--- http_config
proxy_cache_path cache keys_zone=api:1m;
--- config eval
qq{
add_header X-Cache \$upstream_cache_status always;
add_header X-Reason \$gateway_reason always;
location / {
    gateway_pass gateway;
    proxy_cache api;
    proxy_cache_key \$uri;
    proxy_cache_valid 200 1s;
}
location = /metrics { gateway_metrics; }
}
--- request
GET /a
--- after_request eval
sub {
    is(get('/a')->{headers}{'x-cache'}, 'HIT', 'it is cached');
    sleep 2.1;
    fragile('/fail');
    for (get('/a')) {
        is("$_->{status} $_->{headers}{'x-cache'}", '200 STALE', 'what is stale is better than a 500');
    }
    is(get('/b')->{status}, 500, 'of what there is nothing, the answer is the answer');
    ok(breaker_is(1), 'both were failures');
    for (get('/a')) {
        is("$_->{status} $_->{headers}{'x-cache'} $_->{headers}{'x-reason'}", '200 STALE breaker.open', 'stale, with the breaker open');
    }
    for (get('/c')) {
        is($_->{status}, 503, 'and else the refusal');
        like($_->{body}, qr/"code":"breaker\.open"/, 'in its own words');
        like($_->{headers}{'retry-after'}, qr/^(?:19|20)$/, 'and when to come back');
    }
    is_deeply(burst(20, '/c', connections => 2), {503 => 20}, 'connections are kept');
    fragile('/heal');
}


=== auth goes before, and an error_page of the location behind
--- gateway
version: 1
auth: [{name: k, api_key: {header: X-Key}}]
consumers: [{name: c, api_key: a-key-that-is-long-enough}]
upstreams:
  - {name: nobody, nodes: [{host: nobody.invalid, port: 1}]}
  - {name: gone, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: a, paths: ["/a"], upstream: nobody, auth: [k], fallback: {status: 200, body: secret}}
  - {name: b, paths: ["/b"], upstream: gone, fallback: {status: 200, body: "ours\n"}}
  - {name: c, paths: ["/c"], upstream: gone}
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- config
location / { gateway_pass gateway; error_page 502 /sorry; }
location = /sorry { internal; return 200 "sorry\n"; }
--- request
GET /b
--- response_body
ours
--- after_request eval
sub {
    is(get('/a')->{status}, 401, 'who may not come gets no fallback');
    is(get('/a', headers => 'X-Key: a-key-that-is-long-enough')->{body}, 'secret', 'who may does');
    is(get('/c')->{body}, "sorry\n", 'without a fallback, the page of the location');
}


=== misconfigured: two ways at once, an upstream that is its own resort, two that are each other's, none to fall back from
--- gateway
version: 1
upstreams:
  - {name: a, nodes: [{host: 127.0.0.1, port: 1}], fallback: {upstream: b}}
  - {name: b, nodes: [{host: 127.0.0.1, port: 1}], fallback: {upstream: a}}
  - {name: c, nodes: [{host: 127.0.0.1, port: 1}], fallback: {upstream: c}}
  - {name: d, nodes: [{host: 127.0.0.1, port: 1}], fallback: {upstream: nobody}}
  - {name: e, nodes: [{host: 127.0.0.1, port: 1}], fallback: {upstream: a, status: 200}}
  - {name: f, nodes: [{host: 127.0.0.1, port: 1}], fallback: {stale: false}}
routes:
  - {name: r, paths: ["/*"], upstream: a, fallback: {upstream: a}}
  - {name: s, paths: ["/s"], reply: {status: 200}, fallback: {status: 503}}
  - {name: t, paths: ["/t"], upstream: a, fallback: {status: 204, body: x, code: 3}}
  - {name: u, paths: ["/u"], upstream: a, fallback: {}}
--- must_die
--- error_log eval
[qr/yaml:3: upstreams\[0\]\.fallback\.upstream: `b` falls back to `a`: a route may do so/, qr/yaml:5: upstreams\[2\]\.fallback\.upstream: `c` cannot fall back to itself/,
 qr/yaml:6: upstreams\[3\]\.fallback\.upstream: no upstream is called `nobody`/, qr/yaml:7: upstreams\[4\]\.fallback: has both `status` and `upstream`/,
 qr/yaml:8: upstreams\[5\]\.fallback\.stale: must be true/, qr/yaml:10: routes\[0\]\.fallback\.upstream: the route's upstream is `a` already/,
 qr/yaml:11: routes\[1\]\.fallback: is for what an `upstream` cannot serve/, qr/yaml:12: routes\[2\]\.fallback\.body: an answer of status 204 has no body/,
 qr/yaml:12: routes\[2\]\.fallback: unknown field `code`; our word is `status`/, qr/yaml:13: routes\[3\]\.fallback: needs an answer/]
--- suppress_stderr
