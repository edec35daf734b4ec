# gateway_admin: who is let in, what is shown, where documents are written and where not.

use lib 't';
use Gateway 'no_plan';
use Admin;

our $Policy = <<'YAML';
version: 1
auth: [{name: staff, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "0123456789abcdef0123456789abcdef"}]}}]
limiters: [{name: one, key: [ip], rate: 1/h, burst: 1}]
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], breaker: {failures: 3}}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: few, paths: ["/few"], upstream: u, limits: [one]}
  - {name: own, paths: ["/own"], auth: [staff], upstream: {nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}}
YAML

Admin::serve(sub { $_[0]->api ? ' mode=api' : '' });

run_tests();

__DATA__

=== reads: status, the document, resources, nodes, breakers
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value, $headers) = call(GET => '/v1/status');
    is($status, 200, 'status');
    is($value->{mode}, 'file', 'file mode');
    is($value->{resources}{routes}, 3, 'routes');
    is($headers->{'cache-control'}, 'no-store', 'not for a cache');

    ($status, $value) = call(GET => '/v1/config');
    is($status, 200, 'the document');
    is(scalar @{$value->{routes}}, 3, 'its routes');
    is($value->{auth}[0]{jwt}{keys}[0]{secret}, '(set)', 'no secret');

    ($status, $value, my $first) = call(GET => '/v1/routes/own');
    is($status, 200, 'a route');
    is($value->{upstream}{nodes}[0]{host}, '127.0.0.1', 'with what stands in it');
    like($first->{etag}, qr/^"[0-9a-f]{32}"$/, 'tagged');
    ($status, undef, $headers) = call(GET => '/v1/routes/own', undef, "If-None-Match: $first->{etag}");
    is($status, 304, 'not modified');

    ($status, $value) = call(GET => '/v1/routes?limit=2');
    is_deeply([map { $_->{name} } @{$value->{items}}], ['all', 'few'], 'a page');
    is($value->{total}, 3, 'of three');
    ($status, $value) = call(GET => "/v1/routes?limit=2&cursor=$value->{next}");
    is_deeply([map { $_->{name} } @{$value->{items}}], ['own'], 'the rest');
    is($value->{next}, undef, 'and no more');
    is((call(GET => '/v1/routes?limit=0'))[0], 400, 'a page of nothing');

    ($status, $value) = call(GET => '/v1/upstreams/u/nodes');
    is($value->{nodes}[0]{share}, 1, 'the share of the only node');
    is($value->{nodes}[0]{in_flight}, 0, 'nothing in flight');
    is($value->{nodes}[0]{picks}, 1, 'picked once');
    is($value->{breaker}, 'closed', 'its breaker');
    is_deeply((call(GET => '/v1/breakers'))[1]{items}, [{upstream => 'u', state => 'closed', forced => JSON::PP::false}], 'breakers');
    is((call(GET => '/v1/routes/none'))[0], 404, 'nothing of that name');
    is((call(GET => '/under/v1/status'))[0], 200, 'under a prefix');
    is_deeply([call(HEAD => '/v1/status')]->[1], undef, 'HEAD');
}


=== who is not let in
--- request
GET /a
--- after_request eval
sub {
    my $answer = get('/v1/status');
    is($answer->{status}, 401, 'no token');
    is($answer->{headers}{'www-authenticate'}, 'Bearer', 'says what is wanted');
    is(json($answer->{body})->{code}, 'admin.token', 'code');
    is(get('/v1/status', headers => 'Authorization: Basic YTpi')->{status}, 401, 'another scheme');
    is(get('/v1/status', headers => 'Authorization: Bearer fedcba9876543210')->{status}, 200, 'the other token');

    # One of another address is not in the way of this one.
    my $wrong = sub { get('/v1/status', headers => 'Authorization: Bearer 0123456789abcdeX')->{status} };
    my %seen;
    $seen{$wrong->()}++ for 1 .. 200;
    is($seen{200}, undef, 'never let in');
    cmp_ok($seen{401}, '>=', 10, 'the first ten are looked at');
    cmp_ok($seen{401}, '<=', 15, 'then one a second');
    is($seen{401} + $seen{429}, 200, 'and the others not');
    my ($status, $value, $headers) = call(GET => '/v1/status');
    is($status, 429, 'no token is looked at');
    is($value->{code}, 'admin.throttled', 'code');
    like($headers->{'retry-after'}, qr/^[1-9]\d*$/, 'when it is');
    ok(until_true(4, sub { (call(GET => '/v1/status'))[0] == 200 }), 'then the right one is let in');

    my @audit = audit();
    is((grep { ($_->{code} // '') eq 'admin.token' } @audit), $seen{401} + 2, 'each refusal has its line');
    cmp_ok((grep { ($_->{code} // '') eq 'admin.throttled' } @audit), '<', 12, 'throttled ones a line a second');
    unlike(slurp('logs/state/audit.log'), qr/0123456789abcde/, 'no token in it');
    is($audit[0]{from}, '127.0.0.1', 'from where');
}


=== paths and methods that there are not, bodies of another type
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value, $headers) = call(DELETE => '/v1/status');
    is($status, 405, 'another method');
    is($headers->{allow}, 'GET, HEAD', 'the right ones');
    is((call(GET => '/v1/plugins'))[0], 404, 'no such path');
    is(get('/v1/explain', method => 'POST', body => 'x', headers => "Authorization: Bearer 0123456789abcdef")->{status}, 415, 'no type');
}


=== file mode: documents are validated and not written
--- request
GET /a
--- after_request eval
sub {
    my $bad = "version: 1\nroutes:\n  - name: a\n    paths: ['/*']\n    upstreem: u\n";
    my $auth = 'Authorization: Bearer 0123456789abcdef';
    my $answer = get('/v1/config/validate', method => 'POST', body => $bad, headers => "$auth\r\nContent-Type: application/yaml");
    is($answer->{status}, 422, 'a wrong document');
    is($answer->{headers}{'content-type'}, 'application/problem+json', 'is a problem');
    my $value = json($answer->{body});
    is($value->{code}, 'config.invalid', 'code');
    is($value->{errors}[0]{line}, 5, 'with its line');
    like($value->{errors}[0]{path}, qr/^routes\[0\]/, 'with its path');
    like($value->{errors}[0]{message}, qr/did you mean `upstream`/, 'and what would be right');

    my $good = slurp('conf/gateway.yaml') =~ s/name: all/name: other/r;
    $answer = get('/v1/config/validate', method => 'POST', body => $good, headers => "$auth\r\nContent-Type: application/yaml");
    is($answer->{status}, 200, 'a good one');
    is_deeply([map { "$_->{change} $_->{name}" } @{json($answer->{body})->{changes}}], ['removed all', 'added other'], 'what it would change');

    for (['PUT', '/v1/routes/x', '{}'], ['PUT', '/v1/config', '{}'], ['PATCH', '/v1/routes/all', '{}'], ['DELETE', '/v1/routes/all'],
        ['POST', '/v1/batch', '{}'])
    {
        my ($status, $value) = call(@$_);
        is("$status $value->{code}", '409 config.file_mode', "@$_[0, 1]");
        like($value->{detail}, qr{/conf/gateway\.yaml}, 'names the file');
    }
    my $last = (audit())[-1];
    is("$last->{who} $last->{method} $last->{path} $last->{status} $last->{code}", 'ann POST /v1/batch 409 config.file_mode', 'audited');

    # More than nginx keeps in memory, and more than it lets in by itself.
    my $large = $good . '#' x (3 << 20) . "\n";
    $answer = get('/v1/config/validate', method => 'POST', body => $large, headers => "$auth\r\nContent-Type: application/yaml");
    is($answer->{status}, 200, 'a large one');
}


=== explain: over the live state, without a trace
--- request
GET /few
--- after_request eval
sub {
    my ($status, $value) = call(POST => '/v1/explain', {method => 'GET', url => '/few', client => '127.0.0.1'});
    is($status, 200, 'explained');
    is("$value->{decision} $value->{reason} $value->{route}", 'refuse limit.exceeded few', 'the limit is used up');
    for (1 .. 3) {
        (undef, $value) = call(POST => '/v1/explain', {url => '/few', client => '192.0.2.1', headers => {'X-A' => ['1', '2']}});
        is($value->{forwarded}{target}, '/few', "nothing is taken for another: $_");
    }
    ok((grep { $_->{step} eq 'limit' && $_->{text} =~ /"one" admits/ } @{$value->{notes}}), 'notes');
    (undef, $value) = call(POST => '/v1/explain', {url => 'http://h/own'});
    is($value->{reason}, 'auth.missing', 'who is asked for a token');
    for ('[]', '{', '{"url": 1}', '{"url": "x"}', '{"url": "/", "colour": 1}') {
        is((call(POST => '/v1/explain', $_))[0], 400, "wrong: $_");
    }
}


=== the leader dies: what reads is asked of the next one
--- request
GET /a
--- timeout: 10
--- alerts: exited on signal 9
--- no_error_log
[emerg]
--- after_request eval
sub {
    is((call(GET => '/v1/config'))[0], 200, 'with one');
    my ($leader) = slurp('logs/error.log') =~ /.*\[notice\] (\d+)#\d+: gateway: this process leads/s;
    kill STOP => $leader;
    is((call(GET => '/v1/status'))[0], 200, 'status needs none');
    kill CONT => $leader;
    kill KILL => $leader;
    my ($status, $value) = call(GET => '/v1/config');
    is($status, 200, 'the next one answers');
    ok(reload(), 'reload');
    is((call(GET => '/v1/config'))[0], 200, 'after a reload');
}


=== misconfigured: a file that everybody can read
--- tokens: 0644 0123456789abcdef
--- must_die
--- error_log eval
qr{"gateway_admin": \S+tokens-\d+ has mode 0644, so that anybody on this machine can use it: "chmod 0600" it in \S+nginx\.conf:\d+}


=== misconfigured: a token that can be guessed
--- tokens: 0600 short
--- must_die
--- error_log eval
qr{"gateway_admin": \S+tokens-\d+: line 1: a token has at least 16 characters}


=== misconfigured: no folder for the state
--- http_config
# bare
--- must_die
--- error_log
"gateway_admin" needs "gateway_state" in the "http" block


=== misconfigured: no such file
--- config
location /v1/ { gateway_admin token_file=none; }
--- must_die
--- error_log eval
qr{"gateway_admin": \S+/conf/none: No such file}


=== misconfigured: another parameter
--- config
location /v1/ { gateway_admin none; }
--- must_die
--- error_log eval
qr{invalid parameter "none" of "gateway_admin": it must be "token_file=PATH" in \S+nginx\.conf:\d+}


=== misconfigured: twice, and beside what answers
--- config
location /v1/ { gateway_metrics; gateway_admin token_file=$TEST_NGINX_TOKENS; }
--- must_die
--- error_log
"gateway_admin" stands beside what answers this location already
