# What calls lay over the document: nodes, bans, breakers, canaries; what stays of it, and how it ends.

use lib 't';
use Gateway 'no_plan';
use Admin;

our $Binary = $ENV{TEST_NGINX_BINARY};
our $Policy = <<'YAML';
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}],
     breaker: {failures: 3}, algorithm: round_robin}
  - {name: v, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_3}]}
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: split, paths: ["/split"], upstream: u, canary: {key: "header:x-user", variants: [{name: old, weight: 1}, {name: new, upstream: v, weight: 0}]}}
YAML

Admin::serve(sub { $_[0]->api ? ' mode=api' : '' });

package Test::Base::Filter {
    # Which backends answer 12 requests.
    sub seen {
        my ($path, @headers) = @_;
        my %seen;
        $seen{Gateway::get($path, @headers)->{headers}{'x-backend'} // 'none'}++ for 1 .. 12;
        return CORE::join ' ', sort keys %seen;
    }

    sub node { (grep { $_->{weight} == 1 } @{(call(GET => '/v1/config'))[1]{upstreams}[0]{nodes} // []})[0] }

    sub leader { (slurp('logs/error.log') =~ /\[notice\] (\d+)#\d+: gateway: this process leads/g)[-1] }

    sub restart {
        my $root = root();
        my $master = Gateway::master();
        kill QUIT => $master;
        Gateway::until_true(5, sub { !kill(0, $master) }) or return;
        system("$main::Binary -p $root/ -c $root/conf/nginx.conf >/dev/null 2>&1");
        return Gateway::until_true(5, sub { Gateway::get('/v1/status')->{status} == 401 });
    }
}

run_tests();

__DATA__

=== a node is drained, and comes back
--- request
GET /a
--- after_request eval
sub {
    my $port = (call(GET => '/v1/upstreams/u'))[1]{nodes}[0]{port};
    my $path = "/v1/upstreams/u/nodes/127.0.0.1:$port";
    is(seen('/a'), 'one two', 'both');
    my ($status, $value) = call(PATCH => $path, {drain => JSON::PP::true});
    is($status, 200, 'drained');
    is($value->{id}, "nodes/u/127.0.0.1:$port", 'its id');
    is(seen('/a'), 'two', 'the other one alone, at once');
    is((call(GET => '/v1/upstreams/u/nodes'))[1]{nodes}[0]{weight}, 0, 'as it counts');
    is((call(GET => '/v1/upstreams/u'))[1]{nodes}[0]{weight} // 1, 1, 'the document is what it was');
    ($status, $value) = call(GET => '/v1/overlays');
    is("$value->{total} $value->{items}[0]{weight} $value->{items}[0]{who}", '1 0 ann', 'listed');
    ok(edit('name: all', 'name: any', sub { (get('/a')->{headers}{'x-route'} // '') eq 'any' }), 'another document');
    is(seen('/a'), 'two', 'drained still');
    is((call(PATCH => $path, {drain => JSON::PP::false}))[0], 200, 'not any more');
    is(seen('/a'), 'one two', 'both again');
    is((call(GET => '/v1/overlays'))[1]{total}, 0, 'and no overlay');
    (undef, $value) = call(PATCH => $path, {weight => 3});
    my %seen;
    $seen{get('/a')->{headers}{'x-backend'}}++ for 1 .. 40;
    is($seen{one}, 30, 'three of four');
    is((call(DELETE => '/v1/overlays/nodes%2Fu%2F127.0.0.1:' . $port))[0], 200, 'ended by its id');
    is((call(DELETE => '/v1/overlays/nodes%2Fu%2F127.0.0.1:' . $port))[0], 404, 'once');
    is((call(PATCH => $_->[0], $_->[1]))[0], $_->[2], "$_->[0] $_->[2]") for ['/v1/upstreams/u/nodes/127.0.0.1:1', {weight => 1}, 404],
        ['/v1/upstreams/none/nodes/a:1', {weight => 1}, 404], [$path, {weight => -1}, 400], [$path, {weight => 1, drain => JSON::PP::true}, 400],
        [$path, {colour => 1}, 400], [$path, '[]', 400];
}


=== bans: for a while, over those of the document
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value) = call(POST => '/v1/bans', {cidr => '127.0.0.9', ttl => '1h', reason => 'r'});
    is($status, 200, 'banned');
    like($value->{until}, qr/^20\d\d-/, 'until');
    is((call(POST => '/v1/explain', {url => '/a', client => '127.0.0.9'}))[1]{reason}, 'access.banned', 'refused');
    is((call(POST => '/v1/explain', {url => '/a', client => '127.0.0.8'}))[1]{decision}, 'forward', 'others are not');
    is((call(GET => '/v1/config'))[1]{bans}, undef, 'not in the document');
    ok(edit('routes:', "bans: [{cidr: 127.0.0.8}]\nroutes:",
        sub { (call(POST => '/v1/explain', {url => '/a', client => '127.0.0.8'}))[1]{decision} eq 'refuse' }), 'one of the document');
    is((call(POST => '/v1/explain', {url => '/a', client => '127.0.0.9'}))[1]{reason}, 'access.banned', 'beside it');
    is_deeply((call(GET => '/v1/config'))[1]{bans}, [{cidr => '127.0.0.8'}], 'the document has its own');
    is((call(DELETE => '/v1/overlays/bans%2F127.0.0.9'))[0], 200, 'lifted');
    is((call(POST => '/v1/explain', {url => '/a', client => '127.0.0.9'}))[1]{decision}, 'forward', 'let in');
    is((call(POST => '/v1/explain', {url => '/a', client => '127.0.0.8'}))[1]{reason}, 'access.banned', 'the document goes on');
    call(POST => '/v1/bans', {cidr => '127.0.0.9', ttl => '1s'});
    ok(until_true(3, sub { (call(POST => '/v1/explain', {url => '/a', client => '127.0.0.9'}))[1]{decision} eq 'forward' }), 'over by itself');
    is((call(POST => '/v1/bans', $_))[0], 400, 'wrong') for {cidr => 'x'}, {ttl => '1h'}, {cidr => '127.0.0.1', ttl => '1h', until => '2100-01-01T00:00:00Z'},
        {cidr => '127.0.0.1', ttl => 'soon'}, {cidr => '10.0.0.1/8'};
}


=== breakers and canaries by hand
--- request
GET /a
--- after_request eval
sub {
    my ($status, $value) = call(PUT => '/v1/breakers/u', {state => 'open'});
    is($status, 200, 'forced');
    is(get('/a')->{status}, 503, 'open');
    is((call(GET => '/v1/breakers/u'))[1]{state}, 'forced-open', 'shown');
    is((call(PUT => '/v1/breakers/u', {state => 'auto'}))[0], 200, 'no more');
    is(get('/a')->{status}, 200, 'closed');
    is((call(PUT => $_->[0], $_->[1]))[0], $_->[2], "$_->[0] $_->[2]") for ['/v1/breakers/v', {state => 'open'}, 404], ['/v1/breakers/u', {state => 'ajar'}, 400];

    is(seen('/split', headers => 'X-User: a'), 'one two', 'by the document');
    ($status, $value) = call(PUT => '/v1/routes/split/canary', {percent => 100});
    is("$status $value->{percent}", '200 100', 'all');
    is(seen('/split', headers => 'X-User: a'), 'three', 'to the candidate');
    is((call(GET => '/v1/routes/split/canary'))[1]{percent}, 100, 'shown');
    is((call(PUT => '/v1/routes/split/canary', {action => 'rollback'}))[0], 200, 'rolled back');
    is(seen('/split', headers => 'X-User: a'), 'one two', 'nobody');
    is((call(PUT => '/v1/routes/split/canary', {action => 'pause'}))[0], 400, 'no promotion to pause');
    is((call(PUT => '/v1/routes/all/canary', {percent => 1}))[0], 404, 'no canary');
    is((call(PUT => '/v1/routes/split/canary', {percent => 101}))[0], 400, 'more than all');
    is((call(DELETE => '/v1/routes/split/canary'))[0], 200, 'the document again');
    is((call(GET => '/v1/overlays'))[1]{total}, 0, 'nothing is laid');
    is((call(POST => '/v1/cache/purge', {route => 'all'}))[0], 404, 'nothing is cached');
    is((call(POST => '/v1/cache/purge', {route => 'all', tag => 'x'}))[0], 400, 'one thing at a time');
}


=== they outlive leaders, reloads and restarts
--- request
GET /a
--- alerts: exited on signal 9
--- no_error_log
[emerg]
--- after_request eval
sub {
    my $port = (call(GET => '/v1/upstreams/u'))[1]{nodes}[0]{port};
    call(PATCH => "/v1/upstreams/u/nodes/127.0.0.1:$port", {drain => JSON::PP::true});
    call(POST => '/v1/bans', {cidr => '127.0.0.9'});
    call(PUT => '/v1/routes/split/canary', {percent => 100});
    my $all = sub {
        my ($name) = @_;
        is(seen('/a'), 'two', "$name: drained");
        is(seen('/split', headers => 'X-User: a'), 'three', "$name: the canary");
        is((call(POST => '/v1/explain', {url => '/a', client => '127.0.0.9'}))[1]{reason}, 'access.banned', "$name: the ban");
        is((call(GET => '/v1/overlays'))[1]{total}, 3, "$name: listed");
    };
    $all->('at first');
    ok(reload(), 'reload');
    $all->('reload');
    ok(until_true(5, sub { kill(0, leader()) }), 'a leader');
    my $leader = leader();
    kill KILL => $leader;
    ok(until_true(5, sub { leader() != $leader }), 'another leader');
    $all->('another leader');
    ok(restart(), 'restart');
    is(seen('/a'), 'two', 'from the first request on');
    ok(until_true(5, sub { (call(GET => '/v1/overlays'))[0] == 200 && seen('/split', headers => 'X-User: a') eq 'three' }), 'and the canary soon');
    $all->('restart');
    my @audit = grep { $_->{overlay} } audit();
    is_deeply([map { $_->{overlay}{id} } @audit], ["nodes/u/127.0.0.1:$port", 'bans/127.0.0.9', 'canaries/split'], 'audited');
}
