# Which route a request takes, and that what is forwarded is what was matched.

use lib 't';
use Gateway 'no_plan';
use POSIX ();

# One server behind every route; the answer's X-Route says which one it was.
our $Upstream = 'upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]';

# Rows of [method, host, path, route], or with a status where there is no route.
sub Test::Base::Filter::routes {
    for (@_) {
        my ($method, $host, $path, $want) = @$_;
        my $answer = get($path, method => $method, host => $host);
        my $route = $answer->{status} == 200 ? $answer->{headers}{'x-route'} : $answer->{status};
        is($route, $want, "$method $host$path");
    }
}

# Rows of [target as it is sent, what the server behind is asked for, or the status of a refusal].
sub Test::Base::Filter::forwards {
    for (@_) {
        my ($target, $want) = @$_;
        my $answer = get($target);
        my ($seen) = $answer->{body} =~ /^one GET (.*)/;
        is($seen // $answer->{status}, $want, "$target -> $want");
    }
}

# Rows of [target, headers, route], or with a status where there is no route.
sub Test::Base::Filter::matches_ {
    for (@_) {
        my ($target, $headers, $want) = @$_;
        my $answer = get($target, headers => CORE::join "\r\n", split /\n/, $headers);
        my $route = $answer->{status} == 200 ? $answer->{headers}{'x-route'} : $answer->{status};
        is($route, $want, "$target " . ($headers =~ tr/\n/|/r));
    }
}

run_tests();

__DATA__

=== hosts: exact before the longest wildcard before none; case, port and one trailing dot do not count
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: any, paths: ['/*'], upstream: u}
  - {name: exact, hosts: [api.example.com], paths: ['/*'], upstream: u}
  - {name: wild, hosts: ['*.example.com'], paths: ['/*'], upstream: u}
  - {name: longer, hosts: ['*.eu.example.com'], paths: ['/*'], upstream: u}
"
--- request
GET /
--- after_request eval
sub {
    routes(
        ['GET', 'api.example.com', '/', 'exact'], ['GET', 'API.Example.COM', '/', 'exact'],
        ['GET', 'api.example.com:8443', '/', 'exact'], ['GET', 'api.example.com.', '/', 'exact'],
        ['GET', 'other.example.com', '/', 'wild'], ['GET', 'a.b.example.com', '/', 'wild'],
        ['GET', 'a.eu.example.com', '/', 'longer'], ['GET', 'eu.example.com', '/', 'wild'],
        ['GET', 'example.com', '/', 'any'], ['GET', 'notexample.com', '/', 'any'],
        ['GET', 'api.example.com.evil.org', '/', 'any'], ['GET', '127.0.0.1', '/', 'any'],
    );
}
--- response_headers
X-Route: any


=== paths: exact before pattern before the longest prefix; a segment is never empty
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: root, paths: ['/*'], upstream: u}
  - {name: prefix, paths: ['/users/*'], upstream: u}
  - {name: deep, paths: ['/users/all/active/*'], upstream: u}
  - {name: one, paths: ['/users/{id}'], upstream: u}
  - {name: items, paths: ['/users/{id}/items'], upstream: u}
  - {name: me, paths: ['/users/me'], upstream: u}
"
--- request
GET /
--- after_request eval
sub {
    routes(map { ['GET', 'localhost', @$_] }
        ['/users/me', 'me'], ['/users/42', 'one'], ['/users/42/items', 'items'], ['/users/me/items', 'items'],
        ['/users', 'prefix'], ['/users/', 'prefix'], ['/users/42/', 'prefix'], ['/users/42/other', 'prefix'],
        ['/users/all/active', 'deep'], ['/users/all/active/1', 'deep'], ['/usersx', 'root'], ['/', 'root'],
        ['/users/me?x=/users/42', 'me'], ['/users/%6de', 'me'], ['/Users/me', 'root'],
    );
}


=== a captured tail is never empty, and stands behind {id} and before a prefix
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: prefix, paths: ['/f/*'], upstream: u}
  - {name: tail, paths: ['/f/{*rest}'], upstream: u}
  - {name: id, paths: ['/f/{id}'], upstream: u}
  - {name: below, paths: ['/u/{id}/*'], upstream: u}
"
--- request
GET /f/a/b
--- after_request eval
sub {
    routes(map { ['GET', 'localhost', @$_] }
        ['/f/a', 'id'], ['/f/a/b', 'tail'], ['/f/a/', 'tail'], ['/f', 'prefix'], ['/f/', 'prefix'],
        ['/u/1', 'below'], ['/u/1/x/y', 'below'], ['/u', 404], ['/u/', 404], ['/g', 404]);
    is($_->{headers}{'x-route'}, 'tail', 'on each worker') for each_worker('/f/a/b');
    ok(reload(), 'reload');
    is($_->{headers}{'x-route'}, 'tail', 'after a reload') for each_worker('/f/a/b');
}
--- response_headers
X-Route: tail


=== methods: a route that does not fit is passed over; 405 with Allow only when nothing else matches
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: read, paths: ['/a/*'], methods: [GET, HEAD], upstream: u}
  - {name: write, paths: ['/a/*'], methods: [POST], upstream: u}
  - {name: only, paths: ['/b'], methods: [PUT], upstream: u}
  - {name: low, paths: ['/a/*'], priority: -1, methods: [DELETE], upstream: u}
"
--- request eval
["PATCH /a/1", "GET /b"]
--- after_request eval
[sub {
    routes(['GET', 'localhost', '/a/1', 'read'], ['POST', 'localhost', '/a/1', 'write'],
        ['DELETE', 'localhost', '/a/1', 'low'], ['PUT', 'localhost', '/b', 'only'], ['PUT', 'localhost', '/c', 404],
        ['BREW', 'localhost', '/b', 405]);
}]
--- error_code eval
[405, 405]
--- response_headers eval
["Allow: GET, HEAD, POST, DELETE", "Allow: PUT"]
--- response_body_like eval
['"code":"route.method"', '"code":"route.method"']


=== priority goes before the kind of the path, within a host
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: exact, paths: ['/a'], upstream: u}
  - {name: high, paths: ['/*'], hosts: [h.example.com], priority: 5, upstream: u}
  - {name: low, paths: ['/a'], hosts: [h.example.com], upstream: u}
  - {name: off, paths: ['/a'], priority: 100, enabled: false, upstream: u}
  - {name: top, paths: ['/*'], priority: 9, methods: [POST], upstream: u}
"
--- request
GET /a
--- after_request eval
sub {
    routes(['GET', 'h.example.com', '/a', 'high'], ['GET', 'localhost', '/a', 'exact'],
        ['POST', 'localhost', '/a', 'top'], ['POST', 'h.example.com', '/a', 'high']);
}
--- response_headers
X-Route: exact


=== what is forwarded is what was matched
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: all, paths: ['/*'], upstream: u}
  - {name: admin, paths: ['/admin/*'], auth: [{jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: 0123456789abcdef0123456789abcdef-x9}]}}], upstream: u}
"
--- request
GET /
--- after_request eval
sub {
    forwards(
        ['/a/./b', '/a/b'], ['/a/../b', '/b'], ['/a//b', '/a/b'], ['//a', '/a'], ['/a/%2e%2e/b', '/b'],
        ['/a%20b', '/a%20b'], ['/a%3Fx=1', '/a%3Fx=1'], ['/a?x=%20y&z', '/a?x=%20y&z'], ['/a?', '/a?'],
        ['/a;b=c', '/a;b=c'], ['/%C3%BC', '/%C3%BC'], ['/a%252Fb', '/a%252Fb'], ['/a%23b', '/a%23b'],
        ['/a//b?x=//y', '/a/b?x=//y'], ['/a/..', '/'], ['/a/b/.', '/a/b/'],
        # Refused before routing.
        ['/a%2Fb', 400], ['/a%2fb', 400], ['/a%5Cb', 400], ['/a%00b', 400], ['/a%0d%0ab', 400], ['/a%7Fb', 400],
        ['/..', 400], ['/a/../../b', 400], ['/a%2F..%2Fadmin', 400], ['/a/..%2fadmin', 400], ['/a/%2e%2e%2fadmin', 400],
        # No spelling of a guarded path gets round its route.
        ['/admin', 401], ['/admin/x', 401], ['/%61dmin/x', 401], ['//admin/x', 401], ['/a/../admin/x', 401],
        ['/./admin', 401], ['/a/%2E%2E/admin', 401], ['/admin/.', 401],
    );
    # The path of an absolute target, and a host in it that is not the header's.
    like(exchange("GET http://localhost/admin HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"), qr/^HTTP\S+ 401/,
        'an absolute target');
    like(exchange("GET /x y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), qr/^HTTP\S+ 400/, 'a blank');
}
--- response_body
one GET /
--- no_error_log
[alert]


=== strip_prefix works on the decoded path, and its result is checked and escaped
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: api, paths: ['/api/*'], strip_prefix: true, upstream: u}
  - {name: odd, paths: ['/a b/*'], strip_prefix: true, upstream: u}
"
--- request
GET /api/v1/x?q=1
--- after_request eval
sub {
    forwards(
        ['/api', '/'], ['/api/', '/'], ['/api/x%20y', '/x%20y'], ['/api/x%3Fy', '/x%3Fy'], ['/api//x', '/x'],
        ['/api/./x', '/x'], ['/a%20b/c', '/c'], ['/api/a/../x', '/x'], ['/apix', 404], ['/api/..', 404],
        ['/api/%2F/x', 400], ['/api/%0d%0aX:1', 400], ['/api/http://evil/', '/http:/evil/'], ['/%61pi/x', '/x'],
        ['/api/x?a=/api/', '/x?a=/api/'], ['/api/x%25%32%65', '/x%252e'],
    );
}
--- response_body
one GET /v1/x?q=1
--- no_error_log
[alert]


=== the Host that goes out is the client's, or the upstream's own
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: v, host: inner.example, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
routes:
  - {name: u, paths: ["/*"], upstream: u}
  - {name: v, hosts: [v.example.com], paths: ["/*"], upstream: v}
--- request eval
["GET /headers", "GET /headers", "GET /headers"]
--- more_headers eval
["Host: Api.example.com:81\nX-Forwarded-For: 1.2.3.4\nX_Forwarded_For: 1.2.3.4", "Host: v.example.com\nX-Request-Id: abcdef-123456",
 "X-Request-Id: a\"b"]
--- response_body_like eval
['^host=Api\.example\.com:81 xff=127\.0\.0\.1 id=\S{36} user=$', '^host=inner\.example xff=127\.0\.0\.1 id=abcdef-123456 user=$',
 '^host=localhost xff=127\.0\.0\.1 id=[0-9a-f-]{36} user=$']


=== routes come and go by an edit, on both workers, and stay over a reload
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: a, paths: ['/a'], upstream: u}
"
--- request eval
["GET /a", "GET /b"]
--- after_request eval
[
    sub {
        ok(edit('{name: a, paths', '{name: b, paths: [/b], upstream: u}' . "\n" . '  - {name: a, enabled: false, paths',
            sub { get('/b')->{status} == 200 }), 'live within a second');
        is($_->{status}, 200, 'the new route on each worker') for each_worker('/b');
        is($_->{status}, 404, 'the old one is gone on each') for each_worker('/a');
        ok(reload(), 'reload');
        is($_->{status}, 404, 'and stays gone') for each_worker('/a');
    },
]
--- error_code eval
[200, 200]


=== misconfigured: two routes that nothing tells apart
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes:
  - {name: a, hosts: [x.example], paths: ["/x/*"], upstream: u}
  - {name: b, hosts: [X.example], paths: ["/x/*"], upstream: u}
--- must_die
--- error_log eval
qr/\[emerg\].*gateway\.yaml:5: routes\[1\].*`?a`?/
--- suppress_stderr


=== misconfigured: a path without its slash, a method in lower case, an unknown one
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes:
  - name: a
    paths: [users]
    methods: [get, BREW]
    upstream: u
--- must_die
--- error_log eval
[qr/gateway\.yaml:5: routes\[0\]\.paths\[0\]: .*`?\//, qr/gateway\.yaml:6: routes\[0\]\.methods\[0\]: .*did you mean `GET`/,
 qr/gateway\.yaml:6: routes\[0\]\.methods\[1\]: must be .*GET/]
--- suppress_stderr


=== match: headers, query parameters, cookies
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: any, paths: ['/*'], upstream: u}
  - {name: header, paths: ['/h'], match: [{header: X-Version, equals: '2'}], upstream: u}
  - {name: in, paths: ['/in'], match: [{header: X-Version, in: ['2', '3']}], upstream: u}
  - {name: regex, paths: ['/re'], match: [{header: User-Agent, regex: '(?i)^curl/[78]'}], upstream: u}
  - {name: exists, paths: ['/ex'], match: [{header: X-Beta, exists: true}], upstream: u}
  - {name: absent, paths: ['/ab'], match: [{header: X-Beta, exists: false}], upstream: u}
  - {name: not, paths: ['/not'], match: [{header: X-Tier, equals: free, not: true}], upstream: u}
  - {name: query, paths: ['/q'], match: [{query: v, equals: a b}], upstream: u}
  - {name: qnot, paths: ['/qn'], match: [{query: debug, exists: true, not: true}], upstream: u}
  - {name: cookie, paths: ['/c'], match: [{cookie: canary, equals: 'true'}], upstream: u}
  - {name: one, paths: ['/all'], match: [{header: X-A, exists: true}], upstream: u}
  - {name: two, paths: ['/all'], match: [{header: X-A, exists: true}, {cookie: b, exists: true}], upstream: u}
  - {name: only, hosts: [only.example], paths: ['/*'], match: [{header: X-A, exists: true}], upstream: u}
"
--- http_config
underscores_in_headers on;
--- request
GET /
--- response_headers
X-Route: any
--- after_request eval
sub {
    matches_(
        ['/h', 'X-Version: 2', 'header'], ['/h', 'x-version: 2', 'header'], ['/h', 'X-Version: 2 ', 'header'], ['/h', 'X-Version: 3', 'any'], ['/h', '', 'any'],
        # Two lines: a condition that must hold holds for both, or somebody would pass with the one and be read by the other.
        ['/h', "X-Version: 2\nX-Version: 2", 'header'], ['/h', "X-Version: 2\nX-Version: 3", 'any'], ['/h', "X-Version: 3\nX-Version: 2", 'any'],
        ['/h', 'X-Version: 2, 3', 'any'], ['/h', 'X_Version: 2', 'any'], ['/h', 'X-Version-2: 2', 'any'],
        ['/in', 'X-Version: 3', 'in'], ['/in', 'X-Version: 4', 'any'], ['/in', "X-Version: 2\nX-Version: 3", 'in'],
        ['/re', 'User-Agent: CURL/8.1', 'regex'], ['/re', 'User-Agent: curl/6', 'any'], ['/re', 'User-Agent: not curl/8', 'any'],
        ['/ex', 'X-Beta: ', 'exists'], ['/ex', 'X-Beta: no', 'exists'], ['/ex', '', 'any'],
        ['/ab', '', 'absent'], ['/ab', 'X-Beta: 1', 'any'], ['/ab', 'X-Beta:', 'any'],
        # ... and one that must not hold is not hidden among others.
        ['/not', '', 'not'], ['/not', 'X-Tier: gold', 'not'], ['/not', 'X-Tier: free', 'any'], ['/not', "X-Tier: gold\nX-Tier: free", 'any'],
        ['/not', "X-Tier: free\nX-Tier: gold", 'any'], ['/not', 'X-Tier: gold, free', 'any'], ['/not', 'X-Tier: freed', 'not'],
        ['/q?v=a+b', '', 'query'], ['/q?v=a%20b', '', 'query'], ['/q?x=1&%76=a+b', '', 'query'], ['/q?v=a+b&v=c', '', 'any'],
        ['/q?v=c&v=a+b', '', 'any'], ['/q?V=a+b', '', 'any'], ['/q', '', 'any'], ['/q?v=a+b%zz', '', 'any'],
        ['/qn', '', 'qnot'], ['/qn?x=debug', '', 'qnot'], ['/qn?debug', '', 'any'], ['/qn?x&debug=', '', 'any'], ['/qn?d%65bug', '', 'any'],
        ['/c', 'Cookie: canary=true', 'cookie'], ['/c', 'Cookie: a=b; canary=true; c=d', 'cookie'], ['/c', "Cookie: a=b\nCookie: canary=true", 'cookie'],
        ['/c', 'Cookie: canary="true"', 'cookie'], ['/c', 'Cookie: canary=true; canary=false', 'any'], ['/c', "Cookie: canary=false\nCookie: canary=true", 'any'],
        ['/c', 'Cookie: xcanary=true', 'any'], ['/c', 'Cookie: canary', 'any'],
        ['/all', 'X-A: 1', 'one'], ['/all', "X-A: 1\nCookie: b=1", 'two'], ['/all', 'Cookie: b=1', 'any'],
    );
    is($_->{headers}{'x-route'}, 'two', 'on each worker') for each_worker('/all', headers => "X-A: 1\r\nCookie: b=1");
    routes(['GET', 'only.example', '/h', 'any']);
    is(get('/zz', host => 'only.example', headers => 'X-A: 1')->{headers}{'x-route'}, 'only', 'a host with a condition');
    ok(edit("equals: 'true'", "equals: 'yes'", sub { get('/c', headers => 'Cookie: canary=yes')->{headers}{'x-route'} eq 'cookie' }), 'an edit');
    is($_->{headers}{'x-route'}, 'any', 'the old value on each worker') for each_worker('/c', headers => 'Cookie: canary=true');
}


=== a condition that no route holds is a 404, and no matter of methods
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: a, paths: ['/a'], methods: [GET], match: [{header: X-A, equals: '1'}], upstream: u}
"
--- request eval
["GET /a", "GET /a", "PUT /a", "PUT /a"]
--- more_headers eval
["", "X-A: 1", "", "X-A: 1"]
--- error_code eval
[404, 200, 404, 405]


=== regular expressions: behind patterns, before prefixes, searched for in the decoded path
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: prefix, paths: ['/v1/*'], upstream: u}
  - {name: version, paths: ['~^/v\\d+/users\$'], upstream: u}
  - {name: longer, paths: ['~^/v1/us'], upstream: u}
  - {name: pattern, paths: ['/v2/{any}'], upstream: u}
  - {name: exact, paths: ['/v3/users'], upstream: u}
  - {name: image, paths: ['~(?i)\\.(png|jpe?g)\$'], methods: [GET], upstream: u}
  - {name: umlaut, paths: ['~^/caf\xc3\xa9/\\d\$'], upstream: u}
  - {name: host, hosts: [h.example], paths: ['~^/x'], upstream: u}
"
--- request
GET /v7/users
--- response_headers
X-Route: version
--- after_request eval
sub {
    routes(map { ['GET', 'localhost', @$_] }
        ['/v1/users', 'longer'], ['/v1/uses', 'longer'], ['/v1/u', 'prefix'], ['/v2/users', 'pattern'], ['/v3/users', 'exact'],
        ['/v10/users', 'version'], ['/v10/users/', 404], ['/v/users', 404], ['/xv10/users', 404], ['/v4/%75sers', 'version'],
        ['/v4/./users', 'version'], ['/v4//users', 'version'], ['/v4/users?x=/v1/', 'version'], ['/a/b.PNG', 'image'], ['/a/b.png/', 404],
        ['/b.jpg?x', 'image'], ['/b%2Ejpg', 'image'], ['/b.jpg%0a', 400], ['/caf%C3%A9/1', 'umlaut'], ['/caf%E9/1', 404], ['/xyz', 404]);
    routes(['PUT', 'localhost', '/b.png', 405], ['GET', 'h.example', '/xyz', 'host'], ['GET', 'h.example', '/a.png', 'image']);
    is($_->{headers}{'x-route'}, 'version', 'on each worker') for each_worker('/v5/users');
    ok(reload(), 'reload');
    is($_->{headers}{'x-route'}, 'version', 'after a reload') for each_worker('/v5/users');
    ok(edit('/users$', '/people$', sub { get('/v5/people')->{status} == 200 }), 'an edit');
    is($_->{status}, 404, 'the old expression on each worker') for each_worker('/v5/users');
    # An expression that takes long elsewhere.
    my $start = time;
    get('/v' . '1' x 4000 . '/x');
    ok(time - $start < 1, 'in linear time');
}


=== rewrite: the path that goes out, with the client's query
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: all, paths: ['/*'], upstream: u}
  - {name: order, paths: ['/o/{id}', '/orders/{id}'], rewrite: '/internal/{id}/items', upstream: u}
  - {name: tail, paths: ['/t/{*rest}'], rewrite: '/files/{rest}', upstream: u}
  - {name: fixed, paths: ['/fixed/*'], rewrite: '/a%20b/caf\xc3\xa9/100%25', upstream: u}
  - {name: two, paths: ['/two/{a}/{b}'], rewrite: '/{b}-{a}/{b}', upstream: u}
  - {name: glue, paths: ['/g/{a}/{b}'], rewrite: '/x/{a}{b}/y', upstream: u}
  - {name: swap, paths: ['/o/special'], rewrite: '/o/1', upstream: u}
"
--- request
GET /o/42?a=b%20c&d=/o/
--- response_body
one GET /internal/42/items?a=b%20c&d=/o/
--- after_request eval
sub {
    forwards(
        ['/orders/42', '/internal/42/items'], ['/o/a%20b', '/internal/a%20b/items'], ['/o/a%3Fb', '/internal/a%3Fb/items'],
        ['/o/a%23b', '/internal/a%23b/items'], ['/o/%C3%BC', '/internal/%C3%BC/items'], ['/o/a%25b', '/internal/a%25b/items'],
        ['/o/a;b=c', '/internal/a;b=c/items'], ['/o/a%252e%252e', '/internal/a%252e%252e/items'], ['/o/x?', '/internal/x/items'],
        # Servers that take `;` for the beginning of a parameter would resolve it.
        ['/o/..;', 400], ['/o/%2e%2e;', 400], ['/o/..;x', 400], ['/t/a/..;/b', 400], ['/o/x?..%2f', '/internal/x/items?..%2f'],
        ['/o/%2E%2E', '/'], ['/o/..', '/'], ['/o/a%2Fb', 400], ['/o/a%0d%0aX:1', 400], ['/o/a%00', 400], ['/o/%5c', 400],
        ['/t/a/b', '/files/a/b'], ['/t/a//b', '/files/a/b'], ['/t/a/../b', '/files/b'], ['/t/../x', '/x'], ['/t/a%20/b', '/files/a%20/b'], ['/t/a/', '/files/a/'],
        ['/fixed', '/a%20b/caf%C3%A9/100%25'], ['/fixed/x/y?z', '/a%20b/caf%C3%A9/100%25?z'],
        ['/two/1/2', '/2-1/2'], ['/o/special', '/o/1'],
        # Two dots that only come about together are refused, or resolved, never sent.
        ['/g/x./.y', '/x/x..y/y'], ['/g/.x/y', '/x/.xy/y'],
    );
    unlike(get('/g/.a/x')->{body}, qr{/\.\.?/}, 'no dot segment');
    is($_->{body}, "one GET /internal/7/items\n", 'on each worker') for each_worker('/o/7');
    like(get('/o/42', method => 'POST', body => 'abc')->{body}, qr{^one POST /internal/42/items$}m, 'with a body');
    ok(edit("/internal/{id}/items", "/outer/{id}", sub { get('/o/1')->{body} =~ m{^one GET /outer/1$}m }), 'an edit');
    ok(reload(), 'reload');
    is($_->{body}, "one GET /outer/7\n", 'on each worker') for each_worker('/o/7');
}


=== rewrite: the Location of an answer of the server behind is nginx's affair, retries send the same
--- gateway
version: 1
upstreams: [{name: u, retries: {attempts: 2, on: [error]}, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}, {host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}]
routes:
  - {name: r, paths: ["/r/{id}"], rewrite: "/in/{id}", headers: {X-Id: "{id}"}, upstream: u}
--- http_config
# Nobody is there to listen on 127.0.0.1:$TEST_NGINX_RAND_PORT_2.
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "one $request_method $request_uri $http_x_id\n"; }
}
--- request
GET /r/1
--- after_request eval
sub { is(get("/r/a%20$_?q=$_")->{body}, "one GET /in/a%20$_?q=$_ a $_\n", "try $_") for 1 .. 12 }
--- response_body
one GET /in/1 1
--- no_error_log
[alert]
[emerg]


=== headers: what the route sets, and nothing of the client's in any spelling
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: set, paths: ["/set/{id}", "/set/{id}/*"], upstream: u, headers: {X-User-Id: "user {id}", Authorization: Basic c2VydmljZQ==, X-Fixed: fixed, Cookie: none=1}}
  - {name: empty, paths: ["/empty"], upstream: u, headers: {X-User-Id: "", Accept-Encoding: identity}}
  - {name: open, paths: ["/*"], upstream: u}
--- http_config
underscores_in_headers on;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    underscores_in_headers on;
    location / { return 200 "id=$http_x_user_id auth=$http_authorization fixed=$http_x_fixed cookie=$http_cookie other=$http_x_other\n"; }
    location = /empty { return 200 "id=$http_x_user_id encoding=$http_accept_encoding\n"; }
}
--- request eval
["GET /set/42", "GET /set/42/x", "GET /x", "GET /set/a%20b%C3%BC", "GET /empty"]
--- more_headers eval
my $forged = "X-User-Id: root\nX_User_Id: root\nx-user_id: root\nX_USER-ID: root\nX-Fixed: x\nX_Fixed: x\nX-Other: kept\nAuthorization: Bearer client\nCookie: a=b\nCookie: c=d\nAccept-Encoding: gzip";
[$forged, "X-Other: kept", $forged, $forged, $forged]
--- response_body_like eval
['^id=user 42 auth=Basic c2VydmljZQ== fixed=fixed cookie=none=1 other=kept$', '^id=user 42 auth=Basic c2VydmljZQ== fixed=fixed cookie=none=1 other=kept$',
 '^id=root(?:, root)* auth=Bearer client fixed=x(?:, x)* cookie=a=b; c=d other=kept$', '^id=user a b\xc3\xbc auth=Basic c2VydmljZQ== ', '^id= encoding=identity$']
--- after_request eval
[(undef) x 4, sub {
    is(get('/set/a%0d%0aX-Evil:%201')->{status}, 400, 'a line break does not come that far');
    is(get('/set/a%7Fb')->{status}, 400, 'nor another control character');
    is($_->{body}, "id=user 7 auth=Basic c2VydmljZQ== fixed=fixed cookie=none=1 other=\n", 'on each worker') for each_worker('/set/7');
}]


=== path_policy: strict on the one route, normal on the other
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: all, paths: ['/*'], upstream: u}
  - {name: strict, paths: ['/s/*'], path_policy: strict, upstream: u}
  - {name: reply, paths: ['/r/*'], path_policy: strict, reply: {body: hello}}
"
--- request
GET /s/a
--- after_request eval
sub {
    forwards(
        ['/s/a-b_c.d~e', '/s/a-b_c.d~e'], ['/s/a%20b', '/s/a%20b'], ['/s/%C3%BC', '/s/%C3%BC'], ['/s/a?x=;%5c%252e', '/s/a?x=;%5c%252e'],
        ['/s/a;b', 400], ['/s/a%3Bb', 400], ['/s/..;/x', 400], ['/s/a\\b', 400], ['/s/%252e%252e', 400], ['/s/%25%32%66', 400],
        ['/s/%C0%AF', 400], ['/s/%EF%BC%8E', 400], ['/s/%EF%BC%8Fx', 400],
        ['/a;b', '/a;b'], ['/..;/x', '/..;/x'], ['/%252e%252e', '/%252e%252e'], ['/%EF%BC%8E', '/%EF%BC%8E'],
        ['/r/a;b', 400],
    );
    is(get('/r/a')->{body}, 'hello', 'a reply');
}
--- response_body
one GET /s/a


=== what was stripped is not routed a second time, by try_files and a named location
--- gateway eval
"version: 1
limiters: [{name: ten, key: [global], rate: 1/h, burst: 10}]
$::Upstream
routes:
  - {name: all, paths: ['/*'], upstream: u}
  - {name: api, paths: ['/api/*'], strip_prefix: true, limits: [ten], upstream: u}
  - {name: moved, paths: ['/moved/{*rest}'], rewrite: '/api/private/{rest}', upstream: u}
  - {name: private, paths: ['/private/*'], deny: [0.0.0.0/0], upstream: u}
"
--- config
add_header X-Route $gateway_route always;
location / { gateway on; try_files /none @app; }
location @app { gateway_pass gateway; }
--- request
GET /api/private/x?q=1
--- response_headers
X-Route: api
RateLimit: "ten";r=9;t=3600
--- response_body
one GET /private/x?q=1
--- after_request eval
sub {
    my $nested = get('/api/api/x');
    is("$nested->{headers}{'x-route'} $nested->{body}", "api one GET /api/x\n", 'once, not twice');
    my $moved = get('/moved/y');
    is("$moved->{headers}{'x-route'} $moved->{body}", "moved one GET /api/private/y\n", 'a rewritten one');
    is(get('/private/x')->{status}, 403, 'while the path itself is guarded');
}


=== ... but an internal redirect to the very path that was left is routed: no way round a guard
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: all, paths: ['/*'], upstream: u}
  - {name: api, paths: ['/api/*'], strip_prefix: true, upstream: u}
  - {name: private, paths: ['/private/*'], deny: [0.0.0.0/0], upstream: u}
"
--- config
add_header X-Route $gateway_route always;
location /api/ { gateway on; try_files /none /private/x; }
location /private/ { gateway_pass gateway; }
location /x/ { gateway on; try_files /none /private/x; }
--- request eval
["GET /x/", "GET /api/y", "GET /api/private/x", "GET /private/x"]
--- error_code eval
[403, 403, 403, 403]
--- response_headers eval
["X-Route: private", "X-Route: private", "X-Route: private", "X-Route: private"]


=== X-Accel-Redirect from the server behind a rewritten route: routed by what it says
--- gateway eval
"version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: 0123456789abcdef0123456789abcdef-x9}]}}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: all, paths: ['/*'], upstream: u}
  - {name: r, paths: ['/r/{*to}'], rewrite: '/go/{to}', headers: {X-Set: by-r, Authorization: 'Bearer " . jwt({iss => 'i', aud => 'a', sub => 'gateway'}, '0123456789abcdef0123456789abcdef-x9') . "'}, upstream: u}
  - {name: s, paths: ['/s/*'], strip_prefix: true, headers: {X-Set: by-s}, upstream: u}
  - {name: closed, paths: ['/closed/*'], deny: [0.0.0.0/0], upstream: u}
  - {name: again, paths: ['/again/{x}'], rewrite: '/final/{x}', headers: {X-Set: by-again}, upstream: u}
  - {name: secret, paths: ['/secret/*'], auth: [p], upstream: u}
"
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "one $request_uri $http_x_set.\n"; }
    location ~ ^/go(/.*) { add_header X-Accel-Redirect $1; return 200; }
    location = /closed/self { add_header X-Accel-Redirect /closed/self; return 200; }
}
--- config
add_header X-Route $gateway_route always;
location / { gateway_pass gateway; }
location /files/ { internal; root html; }
--- user_files
>>> files/f.txt
file
--- request
GET /r/files/f.txt
--- response_body
file
--- after_request eval
sub {
    matches_(['/r/closed/x', '', 403], ['/r/again/1', '', 'again'], ['/r/x', '', 'all'], ['/s/go/closed/x', '', 403],
        # The stripped path is /closed/self, and so is where it leads.
        ['/s/closed/self', '', 403], ['/s/x', '', 's'],
        # What the route sets is not the client's credential.
        ['/r/secret/x', '', 401]);
    is(get('/r/again/1')->{body}, "one /final/1 by-again.\n", 'rewritten by its own route, with its own headers');
    is(get('/r/x')->{body}, "one /x .\n", 'and nothing is left of the first');
    like(get('/r/secret/x', headers => 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 's'}, '0123456789abcdef0123456789abcdef-x9'))->{body},
        qr/^one \/secret\/x \.$|auth\.invalid/m, 'the client with its own');
}
--- no_error_log
[alert]
[emerg]


=== subrequests: a stripped path, a rewritten one and headers of its own, and the main request keeps its own
--- gateway
version: 1
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}
  - {name: v, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_2}]}
routes:
  - {name: main, paths: ["/main/{id}"], rewrite: "/page", headers: {X-Set: "main {id}", X-Main: m}, upstream: u}
  - {name: copy, paths: ["/copy/*"], strip_prefix: true, headers: {X-Set: copy}, upstream: v}
  - {name: part, paths: ["/part/{id}"], rewrite: "/p/{id}", headers: {X-Set: "part {id}"}, upstream: u}
  - {name: bare, paths: ["/bare"], upstream: u}
  - {name: after, paths: ["/after"], headers: {X-Set: after}, upstream: u}
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "[$request_uri set=$http_x_set main=$http_x_main other=$http_x_other]"; }
    location = /page { return 200 '[$request_uri set=$http_x_set]<!--# include virtual="/part/a%20b" --><!--# include virtual="/bare" --><!--# include virtual="/part/2?q=3" -->'; }
}
log_format copies 'copied $request_uri set=$http_x_set main=$http_x_main other=$http_x_other';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    access_log logs/copies.log copies;
    location / { return 200 "copied\n"; }
}
--- config
location / { gateway_pass gateway; ssi on; ssi_types *; }
location = /after { mirror /copy/x/y; gateway_pass gateway; }
location /copy/ { internal; gateway_pass gateway; }
--- request
GET /main/7
--- more_headers
X-Set: root
X-Main: root
X-Other: kept
--- response_body chomp
[/page set=main 7][/p/a%20b set=part a b main= other=kept][/bare set= main= other=kept][/p/2?q=3 set=part 2 main= other=kept]
--- after_request eval
sub {
    is(get('/after', headers => "X-Set: root\r\nX-Other: kept")->{body}, '[/after set=after main= other=kept]', 'the main request of a mirror');
    my $copies = sub { Test::Nginx::Util::read_log(Test::Nginx::Socket::server_root() . '/logs/copies.log', 0) };
    ok(until_true(2, sub { $copies->() =~ /copied/ }), 'the copy has arrived');
    is($copies->(), "copied /x/y set=copy main=- other=kept\n", 'stripped, with headers of its own');
}
--- no_error_log
[alert]
[emerg]


=== gRPC: a stripped path and headers of the route, over HTTP/2 to the server behind
--- skip_eval: 5: library() ne 'own'
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: r, paths: ["/rpc/{service}/{method}"], rewrite: "/{service}/{method}", headers: {X-Set: "{method}"}, upstream: u}]
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 http2;
    location / { return 200 "$server_protocol $request_uri $http_x_set"; }
}
--- config
location / { gateway on; grpc_pass grpc://gateway; }
--- http2
--- request
POST /rpc/package.Service/Get%20It
--- more_headers
X-Set: client
Content-Type: application/grpc
TE: trailers
--- response_body chomp
HTTP/2.0 /package.Service/Get%20It Get It


=== FastCGI: the script's name is the path that was changed, the headers are the route's
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: r, paths: ["/app/*"], strip_prefix: true, headers: {X-Set: route}, upstream: u}]
--- http_config
# The test itself will listen, for FastCGI, on 127.0.0.1:$TEST_NGINX_RAND_PORT_1.
--- config
location /app/ { gateway on; fastcgi_pass gateway; fastcgi_param SCRIPT_NAME $fastcgi_script_name; fastcgi_param REQUEST_METHOD $request_method; }
location /up { return 204; }
--- request
GET /up
--- error_code: 204
--- after_request eval
sub {
    my $port = Test::Nginx::Util::expand_env_in_text('$TEST_NGINX_RAND_PORT_1', 'port', $Test::Nginx::Util::RandPorts);
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1) or die "listen: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        my $peer = $listener->accept;
        sysread $peer, my $request, 65536;
        my %params;
        $params{$1} = $2 while $request =~ /(SCRIPT_NAME|HTTP_X_SET)([\w\/ .-]*?)(?=[\x00-\x1f]|\z)/g;
        my $body = "Status: 200\r\n\r\n" . CORE::join ' ', map { "$_=$params{$_}" } sort keys %params;
        print $peer pack('CCnnCx', 1, 6, 1, length $body, 0), $body, pack('CCnnCx', 1, 3, 1, 8, 0), "\0" x 8;
        close $peer;
        # Nothing of the test's own end.
        POSIX::_exit(0);
    }
    my $body = get('/app/a%20b.php', headers => 'X-Set: client')->{body};
    waitpid $pid, 0;
    like($body, qr{SCRIPT_NAME=/a b\.php}, 'the path');
    like($body, qr{HTTP_X_SET=route}, 'the header');
    unlike($body, qr{client}, 'and not the client\'s');
}


=== a subrequest to a location that merely names the balancer: what would have to be changed is refused
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: page, paths: ["/page"], upstream: u}
  - {name: plain, paths: ["/late/plain/*"], upstream: u}
  - {name: strip, paths: ["/late/strip/*"], strip_prefix: true, upstream: u}
  - {name: set, paths: ["/late/set"], headers: {X-Set: route}, upstream: u}
  - {name: reply, paths: ["/late/reply"], reply: {body: hello}}
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "[$request_uri set=$http_x_set]"; }
    location = /page { return 200 '<!--# include virtual="$arg_of" -->'; }
}
--- config
location / { gateway_pass gateway; ssi on; ssi_types *; }
location /late/ { proxy_pass http://gateway; }
--- request
GET /page?of=/late/plain/a%20b
--- more_headers
X-Set: client
--- response_body chomp
[/late/plain/a%20b set=client]
--- after_request eval
sub {
    for ('/late/strip/x', '/late/set', '/late/reply') {
        my $body = get("/page?of=$_", headers => 'X-Set: client')->{body};
        like($body, qr/50[02] /, "$_ is an error");
        unlike($body, qr/set=|hello/, "$_ is not sent");
    }
    like(errors(), qr{subrequest "/late/strip/x" was refused: its route changes path or headers, and its location lacks "gateway_pass"}, 'which is told');
}
--- no_error_log
[alert]
[emerg]


=== proxy_pass with a URI of its own: a path that was changed is sent as it is
--- gateway eval
"version: 1
$::Upstream
routes:
  - {name: strip, paths: ['/a/long/prefix/*'], strip_prefix: true, upstream: u}
  - {name: rewrite, paths: ['/another/long/{id}'], rewrite: '/r{id}', upstream: u}
  - {name: plain, paths: ['/plain/*'], upstream: u}
  - {name: file, paths: ['/a/file/f.txt/*'], strip_prefix: true}
"
--- config
location /a/long/prefix/ { gateway on; proxy_pass http://gateway/; }
location /another/long/ { gateway on; proxy_pass http://gateway/base/; }
location /plain/ { gateway on; proxy_pass http://gateway/base/; }
location /a/file/ { gateway on; alias html/; }
--- request
GET /a/long/prefix/x?q=1
--- response_body
one GET /x?q=1
--- after_request eval
sub { forwards(['/a/long/prefix/', '/'], ['/a/long/prefix/a%20b/c', '/a%20b/c'], ['/another/long/1', '/r1'], ['/plain/x', '/base/x'], ['/plain/a/../x?y', '/base/x?y'], ['/a/file/f.txt/x', 500]) }
--- alerts: "alias" cannot be used in location "/a/file/" where URI was rewritten
--- no_error_log
[emerg]


=== satisfy any: who is let in by an address goes the same way as who has a token
--- gateway
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: 0123456789abcdef0123456789abcdef-x9}]}}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: plain, paths: ["/plain/*"], auth: [p], upstream: u}
  - {name: strip, paths: ["/strip/*"], auth: [p], strip_prefix: true, headers: {X-User: gateway}, upstream: u}
  - {name: named, paths: ["/named/*"], auth: [p], rewrite: /plain/r, upstream: u}
  - {name: reply, paths: ["/reply"], auth: [p], reply: {body: "hello\n"}}
--- config
satisfy any;
allow 127.0.0.1;
deny all;
location / { gateway_pass gateway; }
location /named/ { gateway on; try_files /none @app; }
location @app { gateway_pass gateway; }
--- request
GET /plain/x
--- response_body
one GET /plain/x
--- after_request eval
sub {
    forwards(['/a/../plain/y', '/plain/y'], ['/plain//y', '/plain/y'], ['/strip/x', '/x'], ['/named/x', '/plain/r'], ['/plain/a%2fb', 400]);
    like(get('/strip/headers', headers => 'X-User: root')->{body}, qr/user=gateway$/m, 'with its headers');
    is(get('/reply')->{body}, "hello\n", 'with its answer');
}


=== misconfigured: expressions that are none or too large, a tail that is not last
--- gateway eval
"version: 1
routes:
  - {name: a, paths: ['~^/v[0-9+']}
  - {name: b, paths: ['/f/{*rest}/x']}
  - {name: c, paths: ['~(a{1000}){1000}']}
  - {name: d, paths: ['~(?=a)b']}
  - {name: e, paths: ['/e'], match: [{header: X-A, regex: '('}]}
"
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: routes\[0\]\.paths\[0\]: /, qr/gateway\.yaml:4: routes\[1\]\.paths\[0\]: /, qr/gateway\.yaml:5: routes\[2\]\.paths\[0\]: /,
 qr/gateway\.yaml:6: routes\[3\]\.paths\[0\]: /, qr/gateway\.yaml:7: routes\[4\]\.match\[0\]\.regex: /]
--- suppress_stderr


=== misconfigured: a rewrite by a parameter that there is not, twice the path, conditions that say too little or too much
--- gateway
version: 1
routes:
  - {name: a, paths: ["/a/{id}"], rewrite: "/x/{no}"}
  - {name: b, paths: ["/b/*"], rewrite: /x, strip_prefix: true}
  - {name: c, paths: ["/c"], rewrite: "/x?y=1"}
  - {name: d, paths: ["/d"], rewrite: "/x/../y"}
  - {name: e, paths: ["/e"], headers: {X-A: "{no}", Host: x}}
  - {name: f, paths: ["/f"], match: [{header: X-A}, {equals: x}, {header: X-A, query: q, exists: true}, {cookie: a, equals: x, in: [y]}]}
  - {name: g, paths: ["/g"], path_policy: tight}
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: routes\[0\]\.rewrite: needs the parameter `no`/, qr/gateway\.yaml:4: routes\[1\]\.rewrite: `rewrite` and `strip_prefix` exclude each other/,
 qr/gateway\.yaml:5: routes\[2\]\.rewrite: a path has no query/, qr/gateway\.yaml:6: routes\[3\]\.rewrite: the segment `\.\.` is resolved/,
 qr/gateway\.yaml:7: routes\[4\]\.headers\.X-A: needs the parameter `no`/, qr/gateway\.yaml:7: routes\[4\]\.headers/,
 qr/gateway\.yaml:8: routes\[5\]\.match\[0\]: needs exactly one of `equals`/, qr/gateway\.yaml:8: routes\[5\]\.match\[1\]: needs exactly one of `header`/,
 qr/gateway\.yaml:8: routes\[5\]\.match\[2\]: needs exactly one of `header`/, qr/gateway\.yaml:8: routes\[5\]\.match\[3\]: needs exactly one of `equals`/,
 qr/gateway\.yaml:9: routes\[6\]\.path_policy: must be one of `normal`, `strict`/]
--- suppress_stderr


=== misconfigured: what is not built yet is refused by name
--- gateway
version: 1
routes:
  - name: a
    paths: ["/*"]
    graphql: api
    transform: {}
    paths2: []
--- must_die
--- error_log eval
[qr/gateway\.yaml:5: routes\[0\]\.graphql: not supported yet/, qr/gateway\.yaml:6: routes\[0\]\.transform: not supported yet/,
 qr/gateway\.yaml:7: routes\[0\]: unknown field `paths2`, did you mean `paths`/]
--- suppress_stderr
