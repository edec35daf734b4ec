# Limits: how many pass, what the answers say, what is counted together, and that all workers count as one.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our ($Slow, $Slower) = (backend(), backend());
our $Upstream = 'upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]';

# The statuses of requests one after the other: rows of [path, headers].
sub Test::Base::Filter::statuses { return CORE::join ' ', map { get($_->[0], headers => $_->[1] // '')->{status} } @_ }

# A request whose answer nobody reads yet.
sub Test::Base::Filter::held {
    my ($path) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Gateway::server('port'), Timeout => 5) or die "$!\n";
    print $socket "GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    $socket->flush;
    return $socket;
}

run_tests();

__DATA__

=== 10/s, burst 20: 200 requests at once over both workers admit 20 to 22, a second later 10 more
--- gateway eval
"version: 1
limiters: [{name: few, key: [ip], rate: 10/s, burst: 20}]
$::Upstream
routes: [{name: all, paths: ['/*'], upstream: u, limits: [few]}, {name: free, paths: ['/free'], upstream: u}]
"
--- request
GET /free
--- after_request eval
sub {
    my $began = time;
    my $seen = burst(200, '/', connections => 10);
    my $took = time - $began;
    is($seen->{200} + $seen->{429}, 200, 'every request has an answer');
    cmp_ok($seen->{200}, '>=', 20, 'the burst passes');
    # 20 and what comes back meanwhile: 22 within 0.2 s.
    cmp_ok($seen->{200}, '<=', 20 + int(10 * $took), "no more than that, in $took s");
    cmp_ok($took, '<', 0.6, 'at once');
    # Exactly ten periods after the bucket was last at its end.
    sleep $began + 1.05 - time if $began + 1.05 > time;
    my $left = time - $began;
    $seen = burst(50, '/', connections => 10);
    my $gone = time - $began;
    cmp_ok($seen->{200}, '>=', int(10 * $left) - int(10 * $took), 'a second later ten more');
    cmp_ok($seen->{200}, '<=', int(10 * $gone), 'and not many more');
}


=== an answer says where the client stands: three styles, allowed and refused
--- gateway eval
"version: 1
limiters:
  - {name: a, key: [route], rate: 1/m, burst: 2}
  - {name: b, key: [route], rate: 1/m, burst: 2, headers: x}
  - {name: c, key: [route], rate: 1/m, burst: 2, headers: both}
$::Upstream
routes:
  - {name: a, paths: ['/a'], upstream: u, limits: [a]}
  - {name: b, paths: ['/b'], upstream: u, limits: [b]}
  - {name: c, paths: ['/c'], upstream: u, limits: [c]}
  - {name: none, paths: ['/none'], upstream: u}
"
--- request eval
["GET /a", "GET /a", "GET /a", "GET /b", "GET /b", "GET /b", "GET /c", "GET /c", "GET /c", "GET /none"]
--- error_code eval
[200, 200, 429, 200, 200, 429, 200, 200, 429, 200]
--- response_headers_like eval
my $no = "RateLimit: \nRateLimit-Policy: \nRetry-After: ";
my $nox = "X-RateLimit-Limit: \nX-RateLimit-Remaining: \nX-RateLimit-Reset: ";
["RateLimit-Policy: \"a\";q=2;w=120\nRateLimit: \"a\";r=1;t=60\nRetry-After: \n$nox",
 "RateLimit: \"a\";r=0;t=(120|60)\nRetry-After: \n$nox",
 "RateLimit: \"a\";r=0;t=(120|60)\nRetry-After: 60\nContent-Type: application/problem.json\n$nox",
 "X-RateLimit-Limit: 2\nX-RateLimit-Remaining: 1\nX-RateLimit-Reset: 60\n$no",
 "X-RateLimit-Limit: 2\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: (120|60)\n$no",
 "X-RateLimit-Limit: 2\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: (120|60)\nRetry-After: 60\nRateLimit: ",
 "X-RateLimit-Limit: 2\nRateLimit-Policy: \"c\";q=2;w=120\nRateLimit: \"c\";r=1;t=60\nX-RateLimit-Remaining: 1",
 "X-RateLimit-Remaining: 0\nRateLimit: \"c\";r=0;t=(120|60)\nRetry-After: ",
 "X-RateLimit-Limit: 2\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: (120|60)\nRateLimit-Policy: \"c\";q=2;w=120\nRateLimit: \"c\";r=0;t=(120|60)\nRetry-After: 60",
 "$no\n$nox"]
--- response_body_like eval
['^one', '^one', '"code":"limit.exceeded"', '^one', '^one', '"code":"limit.exceeded"', '^one', '^one', '"code":"limit.exceeded"', '^one']


=== two limits are one decision: a refusal by one takes nothing of the other
--- gateway eval
"version: 1
limiters: [{name: wide, key: [global], rate: 1/m, burst: 4}, {name: narrow, key: ['header:X-K'], rate: 1/m, burst: 1}]
$::Upstream
routes:
  - {name: ab, paths: ['/ab'], upstream: u, limits: [wide, narrow]}
  - {name: ba, paths: ['/ba'], upstream: u, limits: [narrow, wide]}
"
--- request
GET /ab
--- more_headers
X-K: 0
--- after_request eval
sub {
    is(statuses(['/ab', 'X-K: 0'], ['/ab', 'X-K: 0'], ['/ba', 'X-K: 0'], ['/ab', 'X-K: 0']), '429 429 429 429', 'the narrow one refuses');
    is(statuses(['/ab', 'X-K: 1'], ['/ba', 'X-K: 2'], ['/ab', 'X-K: 3']), '200 200 200', 'and took nothing of the wide one');
    is(statuses(['/ba', 'X-K: 4'], ['/ba', 'X-K: 4']), '429 429', 'which is empty now');
    is(get('/ba', headers => 'X-K: 4')->{body} =~ /limit\.exceeded/, 1, 'and says so');
}


=== keys: address, consumer, claim, header, cookie, path, route, upstream
--- gateway eval
"version: 1
auth: [{name: p, optional: true, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: '\$env://T_SECRET'}]}}]
limiters:
  - {name: ip, key: [ip], rate: 1/m, burst: 1}
  - {name: consumer, key: [consumer], rate: 1/m, burst: 1}
  - {name: claim, key: ['claim:org.team'], rate: 1/m, burst: 1}
  - {name: header, key: ['header:X-Tenant'], rate: 1/m, burst: 1}
  - {name: cookie, key: ['cookie:session'], rate: 1/m, burst: 1}
  - {name: path, key: ['path:id'], rate: 1/m, burst: 1}
  - {name: route, key: [route], rate: 1/m, burst: 1}
  - {name: both, key: [ip, 'header:X-Tenant'], rate: 1/m, burst: 1}
  - {name: upstream, key: [upstream], rate: 1/m, burst: 1}
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: v, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: free, paths: ['/free'], upstream: u}
  - {name: ip, paths: ['/ip', '/ip2'], upstream: u, limits: [ip]}
  - {name: consumer, paths: ['/consumer'], upstream: u, auth: [p], limits: [consumer]}
  - {name: claim, paths: ['/claim'], upstream: u, auth: [p], limits: [claim]}
  - {name: header, paths: ['/header'], upstream: u, limits: [header]}
  - {name: cookie, paths: ['/cookie'], upstream: u, limits: [cookie]}
  - {name: path, paths: ['/path/{id}', '/path/{id}/x'], upstream: u, limits: [path]}
  - {name: route, paths: ['/r1/*'], upstream: u, limits: [route]}
  - {name: route2, paths: ['/r2/*'], upstream: u, limits: [route]}
  - {name: both, paths: ['/both'], upstream: u, limits: [both]}
  - {name: up1, paths: ['/up1'], upstream: u, limits: [upstream]}
  - {name: up2, paths: ['/up2'], upstream: u, limits: [upstream]}
  - {name: up3, paths: ['/up3'], upstream: v, limits: [upstream]}
"
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-From;
location / { gateway_pass gateway; }
--- request
GET /free
--- after_request eval
sub {
    my $as = sub { 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', @_}, $main::Secret) };
    is(statuses(['/ip'], ['/ip2'], ['/ip', 'X-From: 10.0.0.1'], ['/ip', 'X-From: 10.0.0.1'], ['/ip', 'X-From: 10.0.0.2']),
        '200 429 200 429 200', 'by address, as realip leaves it');
    is(statuses(['/ip', 'X-From: 2001:db8:0:1::1'], ['/ip', 'X-From: 2001:db8:0:1:ffff::2'], ['/ip', 'X-From: 2001:db8:0:2::1']),
        '200 429 200', 'IPv6 by its /64');
    is(statuses(['/consumer', $as->(sub => 'a')], ['/consumer', $as->(sub => 'a')], ['/consumer', $as->(sub => 'b')], ['/consumer'], ['/consumer']),
        '200 429 200 200 429', 'by consumer; the anonymous are one');
    is(statuses(['/claim', $as->(org => {team => 'x'})], ['/claim', $as->(sub => 'z', org => {team => 'x'})], ['/claim', $as->(org => {team => 'y'})]),
        '200 429 200', 'by claim');
    is(statuses(['/header', 'X-Tenant: x'], ['/header', 'x-tenant: x'], ['/header', 'X-Tenant: y'], ['/header'], ['/header']),
        '200 429 200 200 429', 'by header');
    is(statuses(['/cookie', 'Cookie: a=b; session=1'], ['/cookie', 'Cookie: session=1; c=d'], ['/cookie', 'Cookie: session=2']),
        '200 429 200', 'by cookie');
    is(statuses(['/path/1'], ['/path/1/x'], ['/path/%31'], ['/path/2']), '200 429 429 200', 'by a parameter of the path, decoded');
    is(statuses(['/r1/a'], ['/r1/b'], ['/r2/a'], ['/r2/b']), '200 429 200 429', 'by route');
    is(statuses(['/both', 'X-Tenant: x'], ['/both', 'X-Tenant: x'], ['/both', "X-Tenant: x\r\nX-From: 10.0.0.9"], ['/both', 'X-Tenant: y']),
        '200 429 200 200', 'by two together');
    is(statuses(['/up1'], ['/up2'], ['/up3'], ['/up3']), '200 429 200 429', 'by upstream, whatever the route');
}


=== cost and shadow
--- gateway eval
"version: 1
limiters:
  - {name: dear, key: [global], rate: 1/m, burst: 5, cost: 2}
  - {name: shy, key: [global], rate: 1/m, burst: 1, mode: shadow}
$::Upstream
routes:
  - {name: dear, paths: ['/dear'], upstream: u, limits: [dear]}
  - {name: shy, paths: ['/shy'], upstream: u, limits: [shy]}
"
--- config
add_header X-Limit $gateway_limit_status always;
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
--- request eval
["GET /dear", "GET /dear", "GET /dear", "GET /shy", "GET /shy", "GET /metrics"]
--- error_code eval
[200, 200, 429, 200, 200, 200]
--- response_headers eval
["X-Limit: PASSED", "X-Limit: PASSED", "X-Limit: REJECTED", "X-Limit: PASSED", "X-Limit: REJECTED_DRY_RUN", "!X-Limit"]
--- response_body_like eval
['^one', '^one', 'limit\.exceeded', '^one', '^one',
 '(?s)gateway_rate_limit_hits_total\{route="dear",rule="dear"\} 1\n.*gateway_rate_limit_hits_total\{route="shy",rule="shy"\} 1\n']


=== a request that fails auth has spent its address's token, but none of its identity's
--- gateway eval
"version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: '\$env://T_SECRET'}]}}]
limiters: [{name: ip, key: [ip], rate: 1/m, burst: 3}, {name: who, key: [consumer], rate: 1/m, burst: 1}]
$::Upstream
routes: [{name: p, paths: ['/*'], upstream: u, auth: [p], limits: [ip, who]}]
"
--- request eval
["GET /", "GET /", "GET /", "GET /"]
--- more_headers eval
my $good = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 's'}, $::Secret);
["", "Authorization: Bearer x", $good, $good]
--- error_code eval
[401, 401, 200, 429]


=== edits: a new rate acts at once and forgets nobody; a reload forgets nothing
--- gateway eval
"version: 1
limiters: [{name: few, key: [ip], rate: 1/h, burst: 3}]
$::Upstream
routes: [{name: all, paths: ['/*'], upstream: u, limits: [few]}, {name: free, paths: ['/free'], upstream: u}]
"
--- request
GET /free
--- after_request eval
sub {
    is_deeply(burst(10, '/'), {200 => 3, 429 => 7}, 'three pass');
    ok(reload(), 'reload');
    is($_->{status}, 429, 'still full, on each worker') for each_worker('/');
    ok(edit('limits: [few]}, {', 'limits: [few], labels: {a: b}}, {'), 'an edit that has nothing to do with it');
    is($_->{status}, 429, 'still full, on each worker') for each_worker('/');
    ok(edit('rate: 1/h, burst: 3', 'rate: 100/s, burst: 50', sub { get('/')->{status} == 200 }), 'a higher rate lets through');
    is($_->{status}, 200, 'on each worker') for each_worker('/');
}


=== a request costs what its header says
--- gateway eval
"version: 1
limiters: [{name: weighed, key: [global], rate: 1/m, burst: 5, cost: 'header:X-Cost'}]
$::Upstream
routes: [{name: all, paths: ['/*'], upstream: u, limits: [weighed]}]
"
--- request eval
["GET /", "GET /", "GET /", "GET /", "GET /", "GET /"]
--- more_headers eval
["X-Cost: 3", "X-Cost: 6", "X-Cost: three", "X-Cost: 0", "X-Cost: 3", ""]
--- error_code eval
[200, 429, 400, 200, 429, 200]
--- response_headers_like eval
["RateLimit: \"weighed\";r=2;t=180", "Retry-After: \nRateLimit: \"weighed\";r=2;t=180", "Retry-After: ", "RateLimit: \"weighed\";r=2;t=180", "Retry-After: 60", "RateLimit: \"weighed\";r=1;t=240"]
--- response_body_like eval
['^one', '"code":"limit.never"', '"code":"limit.cost"', '^one', '"code":"limit.exceeded"', '^one']


=== guessing is throttled: bad credentials count, good ones and none do not
--- gateway eval
"version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: '\$env://T_SECRET'}]}}]
limiters: [{name: guesses, key: [ip], rate: 1/m, burst: 2, on: auth_failure}]
$::Upstream
routes: [{name: p, paths: ['/*'], upstream: u, auth: [p], limits: [guesses]}]
"
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-From;
location / { gateway_pass gateway; }
--- request eval
[map { "GET /" } 1 .. 8]
--- more_headers eval
my $good = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 's'}, $::Secret);
my $bad = 'Authorization: Bearer x';
[$good, $good, $good, "", $bad, $bad, $good, "$good\r\nX-From: 10.0.0.1"]
--- error_code eval
[200, 200, 200, 401, 401, 401, 429, 200]


=== answers are charged when they are over, by a header that the client need not see, or by their status
--- gateway eval
"version: 1
limiters:
  - {name: tokens, key: ['header:X-K'], rate: 1/m, burst: 100, on: response, cost: 'header:X-Tokens', headers: x}
  - {name: misses, key: ['header:X-K'], rate: 1/m, burst: 2, on: response, statuses: [404]}
  - {name: shy, key: ['header:X-K'], rate: 1/m, burst: 1, on: response, mode: shadow}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_2}]}]
routes:
  - {name: model, paths: ['/model/*'], upstream: u, limits: [tokens]}
  - {name: pages, paths: ['/pages/*'], upstream: u, limits: [misses]}
  - {name: shy, paths: ['/shy'], upstream: u, limits: [shy]}
  - {name: own, paths: ['/own'], reply: {status: 404, headers: {X-Tokens: '99'}}, limits: [tokens, misses]}
"
--- config
location / { gateway_pass gateway; proxy_hide_header X-Tokens; }
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    location = /model/60 { add_header X-Tokens 60; return 200 answer; }
    location = /model/bad { add_header X-Tokens many; return 200 answer; }
    location = /model/none { return 200 answer; }
    location = /pages/here { return 200 here; }
    location = /shy { return 200 shy; }
    location / { return 404; }
}
--- request
GET /model/60
--- more_headers
X-K: a
--- response_headers
! X-Tokens
X-RateLimit-Remaining: 100
--- after_request eval
sub {
    is(get('/model/60', headers => 'X-K: a')->{headers}{'x-ratelimit-remaining'}, 40, 'the first one was charged');
    my $refused = get('/model/none', headers => 'X-K: a');
    is("$refused->{status} $refused->{headers}{'retry-after'}", '429 1260', 'twenty are owed, and one is to be there');
    is(statuses(['/model/bad', 'X-K: b'], ['/model/none', 'X-K: b'], ['/model/x', 'X-K: b']), '200 200 404', 'without a number');
    is(get('/model/none', headers => 'X-K: b')->{headers}{'x-ratelimit-remaining'}, 97, 'each of them cost one');
    is(statuses(['/pages/here', 'X-K: c'], ['/pages/no', 'X-K: c'], ['/pages/here', 'X-K: c'], ['/pages/no', 'X-K: c'],
        ['/pages/here', 'X-K: c'], ['/pages/here', 'X-K: d']), '200 404 200 404 429 200', 'by status');
    is(statuses(['/own', 'X-K: e'], ['/own', 'X-K: e'], ['/model/none', 'X-K: e'], ['/own', 'X-K: e']), '404 404 429 429', 'also what a route says itself');
    is(statuses(['/shy', 'X-K: f'], ['/shy', 'X-K: f'], ['/shy', 'X-K: f']), '200 200 200', 'in shadow');
}


=== max_in_flight: exact over all workers; what a killed worker held comes back
--- alerts: exited on signal 9
--- gateway eval
"version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $::Slow}]}]
routes:
  - {name: few, paths: ['/few'], upstream: u, max_in_flight: 3}
  - {name: free, paths: ['/*'], upstream: u}
"
--- config
add_header X-Worker $pid always;
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
--- request
GET /free
--- response_body_like: backend
--- after_request eval
sub {
    my $held = sub { get('/metrics')->{body} =~ /^gateway_route_in_flight\{route="few"\} (\d+)/m; $1 };
    is(get('/slow?700', method => 'POST')->{status}, 200, 'a slow backend');
    is_deeply(burst(40, '/few', connections => 40), {200 => 3, 503 => 37}, 'three at a time, whoever asks');
    is($held->(), 0, 'and all are over');
    get('/heal', method => 'POST');
    is_deeply(burst(3, '/few', connections => 1), {200 => 3}, 'one after the other');
    like(get('/metrics')->{body}, qr/gateway_rate_limit_hits_total\{route="few",rule="max_in_flight"\} 37\n/, 'counted');

    get('/slow?60000', method => 'POST');
    my @waiting = map { held('/few') } 1 .. 3;
    ok(until_true(3, sub { $held->() == 3 }), 'three wait');
    my $refused = get('/few');
    is("$refused->{status} $refused->{headers}{'retry-after'}", '503 1', 'a fourth is refused');
    like($refused->{body}, qr/"code":"limit.in_flight"/, 'and told why');
    my @old = worker_pids();
    kill KILL => @old;
    ok(until_true(10, sub { my @now = worker_pids(); @now == 2 && !grep { my $pid = $_; grep { $_ == $pid } @old } @now }), 'other workers');
    ok(until_true(5, sub { ($held->() // 9) == 0 }), 'their places are free again');
}
--- no_error_log
[emerg]


=== max_in_flight holds through a reload, whose old workers go on
--- gateway eval
"version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $::Slower}]}]
routes: [{name: few, paths: ['/few'], upstream: u, max_in_flight: 2}, {name: free, paths: ['/*'], upstream: u}]
"
--- config
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
--- request
GET /free
--- response_body_like: backend
--- after_request eval
sub {
    get('/slow?4000', method => 'POST');
    my @waiting = map { held('/few') } 1 .. 2;
    # Not by asking for a place, which might be had before the two have theirs.
    ok(until_true(2, sub { get('/metrics')->{body} =~ /^gateway_route_in_flight\{route="few"\} 2$/m }), 'full');
    is(get('/few')->{status}, 503, 'which a third is told');
    ok(reload(), 'reload');
    is(get('/few')->{status}, 503, 'still full');
    is((CORE::join '', map { my $text = ''; 1 while sysread $_, $text, 65536, length $text; $text =~ /^HTTP\/1.1 (\d+)/ ? "$1 " : '- ' } @waiting), '200 200 ', 'the old ones end well');
    get('/heal', method => 'POST');
    is(get('/few')->{status}, 200, 'and their places are free');
}


=== misconfigured: no rate, a burst below one, an unknown key, a limiter of nobody
--- gateway
version: 1
limiters:
  - {name: a, key: [ip], rate: 0/s}
  - {name: b, key: [ip], rate: 5/s, burst: 0}
  - {name: c, key: [adress], rate: 5/s}
  - {name: d, key: [ip], rate: 5 per second}
  - {name: e, key: [ip], rate: 5/s, burst: 2, cost: 3}
  - {name: f, rate: 5/s}
  - {name: g, key: [ip], rate: 5/s, cost: -1}
  - {name: h, key: [ip], rate: 5/s, store: redis}
  - {name: i, key: [consumer], rate: 5/s, on: auth_failure}
  - {name: j, key: [ip], rate: 5/s, statuses: [404]}
  - {name: k, key: [ip], rate: 5/s, cost: X-Cost}
routes: [{name: r, paths: ["/*"], limits: [a, x], max_in_flight: 0}]
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: limiters\[0\]\.rate: must be above 0/, qr/gateway\.yaml:4: limiters\[1\]\.burst: must be above 0/,
 qr/gateway\.yaml:5: limiters\[2\]\.key\[0\]: .*`ip`/, qr{gateway\.yaml:6: limiters\[3\]\.rate: .*10/s},
 qr/gateway\.yaml:7: limiters\[4\]/, qr/gateway\.yaml:8: limiters\[5\]: needs `key`/, qr/gateway\.yaml:9: limiters\[6\]\.cost: must not be negative/,
 qr/gateway\.yaml:10: limiters\[7\]\.store: .*not supported yet/, qr/gateway\.yaml:11: limiters\[8\]\.key\[0\]: .*failures/,
 qr/gateway\.yaml:12: limiters\[9\]\.statuses: needs `on: response`/, qr/gateway\.yaml:13: limiters\[10\]\.cost: .*`header:NAME`/,
 qr/gateway\.yaml:14: routes\[0\]\.limits\[1\]: .*`x`/, qr/gateway\.yaml:14: routes\[0\]\.max_in_flight: must be above 0/]
