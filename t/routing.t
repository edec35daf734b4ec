# Which route a request takes, and that what is forwarded is what was matched.

use lib 't';
use Gateway 'no_plan';

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


=== misconfigured: a regular expression is not built yet, a tail that is not last
--- gateway
version: 1
routes:
  - {name: a, paths: ["~^/v[0-9]+"]}
  - {name: b, paths: ["/f/{*rest}/x"]}
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: routes\[0\]\.paths\[0\]: regular expressions \(`~`\) are not supported yet/, qr/gateway\.yaml:4: routes\[1\]\.paths\[0\]: /]
--- suppress_stderr


=== misconfigured: what is not built yet is refused by name
--- gateway
version: 1
routes:
  - name: a
    paths: ["/*"]
    cors: {origins: ["*"]}
    paths2: []
--- must_die
--- error_log eval
[qr/gateway\.yaml:5: routes\[0\]\.cors: not supported yet/, qr/gateway\.yaml:6: routes\[0\]: unknown field `paths2`, did you mean `paths`/]
--- suppress_stderr
