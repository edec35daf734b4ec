# gateway_config … mode=api: documents are written by calls, numbered, kept, compared and taken back.

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

our $Binary = $ENV{TEST_NGINX_BINARY};
Admin::serve(sub { ' mode=api' });

package Test::Base::Filter {
    # The number of the revision files.
    sub revisions { my $root = root(); sort { $a <=> $b } map { m{/(\d+)\.json\z} } glob "$root/logs/state/revisions/*" }

    sub fetch { Gateway::get($_[0])->{headers}{'x-route'} // '' }

    sub leader { (slurp('logs/error.log') =~ /\[notice\] (\d+)#\d+: gateway: this process leads/g)[-1] }
}

run_tests();

__DATA__

=== one resource: created, read, changed, removed; live with the answer
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value, $headers) = call(GET => '/v1/status');
    is("$value->{mode} $value->{revision}", 'api 1', 'the seed is the first revision');

    ($status, $value, $headers) = call(PUT => '/v1/routes/new', {paths => ['/new'], upstream => 'u'});
    is("$status $value->{revision}", '201 2', 'created');
    is_deeply($value->{changes}, [{change => 'added', fields => [], kind => 'routes', name => 'new'}], 'what changed');
    is(fetch('/new'), 'new', 'live at once') for 1 .. 8;
    my $etag = $headers->{etag};

    ($status, $value, $headers) = call(GET => '/v1/routes/new');
    is_deeply($value, {name => 'new', paths => ['/new'], upstream => 'u'}, 'as it was written');
    is($headers->{etag}, $etag, 'the same tag');

    ($status, $value, $headers) = call(PATCH => '/v1/routes/new', {paths => ['/newer'], labels => {team => 'x'}}, "If-Match: $etag");
    is("$status $value->{revision}", '200 3', 'changed');
    isnt($headers->{etag}, $etag, 'another tag');
    is(fetch('/newer'), 'new', 'live');
    ($status, $value) = call(PATCH => '/v1/routes/new', {labels => undef}, "If-Match: $etag");
    is("$status $value->{code}", '412 admin.precondition', 'who has not seen it changes nothing');
    ($status, $value) = call(PUT => '/v1/routes/new', {paths => ['/x'], upstream => 'u'}, 'If-None-Match: *');
    is($status, 412, 'there is one already');

    is((call(PATCH => '/v1/routes/none', {}))[0], 404, 'nothing to change');
    is((call(DELETE => '/v1/routes/none'))[0], 404, 'nothing to remove');
    ($status, $value) = call(DELETE => '/v1/routes/new');
    is("$status $value->{revision}", '200 4', 'removed');
    is(fetch('/newer'), 'all', 'gone');
    is((call(GET => '/v1/routes/new'))[0], 404, 'not shown any more');
    is_deeply([revisions()], [1 .. 4], 'kept');

    my @audit = grep { $_->{revision} } audit();
    is_deeply([map { "$_->{who} $_->{method} $_->{path} $_->{status} $_->{revision_before}-$_->{revision}" } @audit],
        ['ann PUT /v1/routes/new 201 1-2', 'ann PATCH /v1/routes/new 200 2-3', 'ann DELETE /v1/routes/new 200 3-4'], 'audited');
    is_deeply($audit[1]{changes}, [{change => 'changed', fields => ['labels', 'paths'], kind => 'routes', name => 'new'}], 'with what changed');

    # A block has a slash in its name.
    is((call(PUT => '/v1/bans/192.0.2.0%2F24', {reason => 'r'}))[0], 201, 'a ban');
    is((call(GET => '/v1/bans/192.0.2.0%2F24'))[1]{cidr}, '192.0.2.0/24', 'by its block');
    is((call(DELETE => '/v1/bans/192.0.2.0%2F24'))[0], 200, 'lifted');
}


=== what would be wrong is not written, and is told with lines of the body
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value, $headers) = call(PUT => '/v1/routes/new', "{\n  \"paths\": [\"/new\"],\n  \"upstreem\": \"u\"\n}");
    is("$status $value->{code} $headers->{'content-type'}", '422 config.invalid application/problem+json', 'a word that is none');
    is("$value->{errors}[0]{line}", 3, 'the line of the body');
    like($value->{errors}[0]{message}, qr/did you mean `upstream`/, 'what would be right');

    ($status, $value) = call(PUT => '/v1/routes/new', {paths => ['/new'], upstream => 'nobody'});
    is("$status $value->{errors}[0]{path}", '422 upstream', 'a name that is nobody');
    ($status, $value) = call(DELETE => '/v1/upstreams/u');
    is($status, 422, 'one that others name');
    like($value->{errors}[0]{path}, qr/^routes\[0\]/, 'who names it');
    is((call(PUT => '/v1/routes/new', '{"paths": 1, }'))[0], 400, 'no JSON');
    is((call(PUT => '/v1/routes/new', '[]'))[0], 400, 'no object');
    ($status, $value) = call(PUT => '/v1/routes/new', {name => 'other', paths => ['/'], upstream => 'u'});
    is($status, 400, 'two names');
    is((call(PATCH => '/v1/routes/all', {name => 'other'}))[0], 400, 'another name');
    ($status, $value) = call(PUT => '/v1/routes/new', {paths => ['/*'], upstream => 'u'});
    is($status, 422, 'a route that another one hides') or diag explain $value;

    is_deeply([revisions()], [1], 'nothing was kept');
    is((call(GET => '/v1/status'))[1]{revision}, 1, 'nothing is live');
    is(scalar @{(call(GET => '/v1/routes'))[1]{items}}, 3, 'nothing is shown');
}


=== secrets are never shown, and stay where they are not written anew
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value, $headers) = call(GET => '/v1/config');
    is($value->{auth}[0]{jwt}{keys}[0]{secret}, '(set)', 'hidden');
    $value->{routes}[0]{labels} = {a => 'b'};
    ($status, my $done) = call(PUT => '/v1/config', $value, "If-Match: $headers->{etag}");
    is("$status $done->{revision}", '200 2', 'written back');
    is_deeply([map { "$_->{kind} $_->{name}" } @{$done->{changes}}], ['routes all'], 'the secret is what it was');
    my $token = jwt({iss => 'i', aud => 'a', sub => 's', exp => time + 60}, '0123456789abcdef0123456789abcdef');
    is(get('/own', headers => "Authorization: Bearer $token")->{status}, 200, 'and verifies');

    ($status, $value) = call(GET => '/v1/auth/staff');
    $value->{jwt}{keys}[0]{kid} = 'other';
    ($status, $value) = call(PUT => '/v1/auth/staff', $value);
    is("$status $value->{errors}[0]{path}", '422 jwt.keys[0].secret', 'of another key there is none to stay');
    my $all = CORE::join "\n", map { $_->{body} } map { get("/v1/$_", headers => 'Authorization: Bearer 0123456789abcdef') }
        qw(config auth auth/staff revisions revisions/1 revisions/2);
    unlike($all, qr/0123456789abcdef0123456789abcdef/, 'never shown');
    unlike(slurp('logs/state/audit.log'), qr/0123456789abcdef0123456789abcdef/, 'nor written down');
    like($all, qr/\(set\)/, 'but for that it is there');
}


=== batches: all or none
--- request
GET /a
--- no_error_log
[emerg]
--- after_request eval
sub {
    my @calls = (
        {method => 'PUT', path => '/v1/routes/to-v', body => {paths => ['/v'], upstream => 'v'}},
        {method => 'PUT', path => '/v1/upstreams/v', body => {nodes => [{host => '127.0.0.1', port => 1}]}},
        {method => 'DELETE', path => '/v1/routes/few'},
    );
    my ($status, $value) = call(POST => '/v1/batch?dry_run', {calls => \@calls});
    is("$status $value->{revision}", '200 1', 'a dry run');
    is(scalar @{$value->{changes}}, 3, 'says what it would change');
    is(fetch('/v'), 'all', 'and changes nothing');
    ($status, $value) = call(POST => '/v1/batch', {calls => [@calls, {method => 'DELETE', path => '/v1/routes/none'}]});
    is($status, 404, 'one that cannot be');
    like($value->{detail}, qr/^calls\[3\]: /, 'which one');
    ($status, $value) = call(POST => '/v1/batch', {calls => [$calls[0]]});
    is($status, 422, 'what would be wrong by itself');
    is(fetch('/v'), 'all', 'nothing was done');
    is_deeply([revisions()], [1], 'nothing was kept');
    ($status, $value) = call(POST => '/v1/batch', {calls => \@calls});
    is("$status $value->{revision}", '200 2', 'is right together');
    is(fetch('/v'), 'to-v', 'live');
    is((call(POST => '/v1/batch', $_))[0], 400, "wrong: $_") for '{}', '{"calls": []}', '{"calls": [{"method": "PUT"}]}', '{"calls": [{"method": "GET", "path": "/v1/routes/all"}]}';
}


=== revisions: listed, compared, taken back
--- request
GET /a
--- after_request eval
sub {
    call(PUT => '/v1/routes/x', {paths => ['/x'], upstream => 'u'});
    call(PUT => '/v1/routes/y', {paths => ['/y'], upstream => 'u'});
    call(DELETE => '/v1/routes/x');
    my ($status, $value) = call(GET => '/v1/revisions');
    is_deeply([map { "$_->{revision} $_->{action}" } @{$value->{items}}[0 .. 2]], ['4 DELETE /v1/routes/x', '3 PUT /v1/routes/y', '2 PUT /v1/routes/x'],
        'the latest first');
    is($value->{items}[0]{who}, 'ann', 'who');
    like($value->{items}[0]{at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'when');
    is_deeply([map { "$_->{change} $_->{name}" } @{(call(GET => '/v1/revisions/2/diff/4'))[1]{changes}}], ['removed x', 'added y'], 'compared');
    is((call(GET => '/v1/revisions/3'))[1]{document}{routes}[3]{name}, 'x', 'the document of one');
    is((call(GET => '/v1/revisions/9'))[0], 404, 'none of that number');
    is((call(GET => '/v1/revisions/..'))[0], 404, 'no number');
    ($status, $value) = call(POST => '/v1/revisions/2/rollback');
    is("$status $value->{revision}", '200 5', 'taken back, which is a revision');
    is(fetch('/x') . fetch('/y'), 'xall', 'live');
    is_deeply((call(GET => '/v1/revisions/2/diff/5'))[1]{changes}, [], 'the same document');
}


=== what was acknowledged outlives reloads, leaders and restarts; the seed does not come back
--- request
GET /a
--- alerts: exited on signal 9
--- no_error_log
[emerg]
--- after_request eval
sub {
    is((call(PUT => '/v1/routes/x', {paths => ['/x'], upstream => 'u'}))[0], 201, 'written');
    document("version: 1\nroutes: [{name: other, paths: ['/*'], reply: {body: x}}]\n");
    is(fetch('/x'), 'x', 'the file is not followed');
    ok(reload(), 'reload');
    is(fetch('/x'), 'x', 'after a reload') for 1 .. 4;
    ok(until_true(5, sub { kill(0, leader()) }), 'a leader');
    my $leader = leader();
    kill KILL => $leader;
    ok(until_true(5, sub { (call(GET => '/v1/config'))[0] == 200 && leader() != $leader }), 'another leader');
    my ($status, $value) = call(PUT => '/v1/routes/y', {paths => ['/y'], upstream => 'u'});
    is("$status $value->{revision}", '201 3', 'goes on from there');
    is(fetch('/x') . fetch('/y'), 'xy', 'with all that was written');
    document("version: 1\nroutes: 7\n");
    ok(reload(), 'a broken seed does not matter any more');
    is(fetch('/x') . fetch('/y'), 'xy', 'still live');

    # A restart, with the zone gone.
    my $root = root();
    my $master = master();
    kill QUIT => $master;
    ok(until_true(5, sub { !kill(0, $master) }), 'stopped');
    system("$main::Binary -p $root/ -c $root/conf/nginx.conf >/dev/null 2>&1");
    ok(until_true(5, sub { fetch('/x') eq 'x' }), 'from the first request on');
    ok(until_true(5, sub { (call(GET => '/v1/status'))[1]{revision} == 3 }), 'the last revision');
}


=== misconfigured: no folder for the revisions
--- config
location / { gateway_pass gateway; }
--- http_config eval
"# bare\ngateway_config " . Test::Nginx::Socket::server_root() . "/conf/gateway.yaml mode=api;\n"
--- must_die
--- error_log eval
qr{"gateway_config … mode=api" needs "gateway_state" in the "http" block}


=== misconfigured: another mode
--- http_config eval
"# bare\ngateway_config " . Test::Nginx::Socket::server_root() . "/conf/gateway.yaml mode=both;\n"
--- must_die
--- error_log eval
qr{invalid parameter "mode=both" of "gateway_config": it must be "mode=file" or "mode=api" in \S+nginx\.conf:\d+}
