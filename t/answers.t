# Routes that answer by themselves: `reply` and `redirect`, behind the guards of the route and of nginx's own modules.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');
our $Token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret);

package Test::Base::Filter {

    # Every value of a header, in order; the whole head in the place of an answer that did not come.
    sub values_of {
        my ($raw, $name) = @_;
        my ($head) = split /\r\n\r\n/, $raw, 2;
        return [($head // '') =~ /^\Q$name\E:[ \t]*([^\r\n]*)/mgi];
    }

    # One request, and its answer as it came.
    sub raw {
        my ($path, %options) = @_;
        my $headers = CORE::join '', map { "$_\r\n" } split /\n/, $options{headers} // '';
        return exchange(($options{method} // 'GET') . " $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n$headers\r\n");
    }

    # Rows of [target, status, Location]; no Location where it is undefined.
    sub redirects {
        for (@_) {
            my ($target, $status, $location) = @$_;
            my $answer = raw($target);
            is(($answer =~ m{^HTTP/1\.1 (\d+)})[0], $status, "$target: status");
            is_deeply(values_of($answer, 'Location'), [$location // ()], "$target: where to");
        }
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
limiters: [{name: one, key: [global], rate: 1/h, burst: 1}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: text, paths: ["/text"], reply: {body: "hello\n"}}
  - {name: json, paths: ["/json"], reply: {status: 201, headers: {X-A: one, x-b: "two, three"}, body: {b: 1, a: [true, null, "ü"]}}}
  - {name: typed, paths: ["/typed"], reply: {headers: {content-type: text/html}, body: "<p>\n"}}
  - {name: none, paths: ["/none"], reply: {status: 204}}
  - {name: empty, paths: ["/empty"], reply: {}}
  - {name: gone, paths: ["/gone"], reply: {status: 404, body: "not here\n"}}
  - {name: later, paths: ["/later"], reply: {status: 503, headers: {Retry-After: "120"}, body: "later\n"}}
  - {name: private, paths: ["/private"], auth: [p], reply: {headers: {X-Secret: s}, body: "secret\n"}}
  - {name: limited, paths: ["/limited"], limits: [one], reply: {headers: {X-Secret: s}, body: "secret\n"}}
  - {name: secret, paths: ["/closed", "/asked"], reply: {headers: {X-Secret: s, Content-Type: text/x-secret}, body: "secret\n"}}
  - {name: away, paths: ["/away"], redirect: {to: "https://elsewhere.example/"}}
  - {name: yes, paths: ["/yes"], reply: {status: 204}}
  - {name: no, paths: ["/no"], reply: {status: 403, body: "no\n"}}
YAML
});

run_tests();

__DATA__

=== a text, an object, a type of its own, nothing
--- request eval
["GET /text", "GET /json", "GET /typed", "GET /none", "GET /empty", "GET /gone", "GET /later"]
--- error_code eval
[200, 201, 200, 204, 200, 404, 503]
--- response_headers eval
["Content-Type: text/plain; charset=utf-8\nContent-Length: 6\n! X-Backend", "Content-Type: application/json\nX-A: one\nX-B: two, three",
 "Content-Type: text/html", "! Content-Type\n! Content-Length\n! Transfer-Encoding", "! Content-Type\nContent-Length: 0",
 "Content-Length: 9", "Retry-After: 120"]
--- response_body_like eval
['^hello\n$', '^\{"a":\[true,null,"\xc3\xbc"\],"b":1\}$|^\{"b":1,"a":\[true,null,"\xc3\xbc"\]\}$', '^<p>\n$', '^$', '^$', '^not here\n$', '^later\n$']
--- after_request eval
[(undef) x 6, sub {
    is($_->{body}, "hello\n", 'on each worker') for each_worker('/text');
    is($_->{headers}{'x-route'}, 'text', 'and the route is known') for each_worker('/text');
    is_deeply(values_of(raw('/typed'), 'Content-Type'), ['text/html'], 'one type');
    is_deeply(values_of(raw('/later'), 'Retry-After'), ['120'], 'one Retry-After');
}]


=== HEAD: the same headers and no body
--- request eval
["HEAD /text", "HEAD /json", "HEAD /gone"]
--- error_code eval
[200, 201, 404]
--- response_headers eval
["Content-Type: text/plain; charset=utf-8\nContent-Length: 6", "Content-Type: application/json", "Content-Length: 9"]
--- response_body eval
["", "", ""]


=== a body that nobody reads is thrown away, and the connection goes on
--- pipelined_requests eval
["POST /text\n" . 'x' x 200_000, "GET /json", "POST /away\nabc", "GET /text", "POST /none\nabc"]
--- error_code eval
[200, 201, 302, 200, 204]
--- response_body_like eval
['^hello\n$', '^\{', '^$', '^hello\n$', '^$']


=== a client that waits for 100 Continue is answered at once
--- request
GET /text
--- after_request eval
sub {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => Test::Nginx::Socket::server_port()) or die;
    print $socket "POST /text HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    $socket->flush;
    ok(IO::Select->new($socket)->can_read(2), 'something comes');
    sysread $socket, my $first, 65536;
    like($first, qr/^HTTP\S+ 200 /, 'the answer');
    syswrite $socket, "helloGET /gone HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    like(CORE::join('', <$socket>), qr/HTTP\S+ 404 .*not here\n\z/s, 'and the next one');
}
--- response_body
hello


=== it is an answer, not an error: the location's error_page is not asked
--- config
error_page 404 503 /page.txt;
location / { gateway_pass gateway; error_page 403 404 503 = /page.txt; proxy_intercept_errors on; }
location = /page.txt { root html; }
--- user_files
>>> page.txt
a page of nginx
--- request eval
["GET /gone", "GET /later", "GET /no", "GET /text"]
--- error_code eval
[404, 503, 403, 200]
--- response_body eval
["not here\n", "later\n", "no\n", "hello\n"]


=== auth and limits stand before it, and nothing of it is shown
--- config
location / { gateway_pass gateway; }
--- request eval
["GET /private", "GET /private", "GET /private", "GET /limited", "GET /limited", "HEAD /limited"]
--- more_headers eval
["", "Authorization: Bearer x.y.z", $::Token, "", "", ""]
--- error_code eval
[401, 401, 200, 200, 429, 429]
--- response_headers eval
["! X-Secret\nContent-Type: application/problem+json", "! X-Secret", "X-Secret: s", "X-Secret: s\nRateLimit: \"one\";r=0;t=3600",
 "! X-Secret\nContent-Type: application/problem+json", "! X-Secret"]
--- response_body_like eval
['auth\.missing(?!.*secret)', 'auth\.invalid(?!.*secret)', '^secret\n$', '^secret\n$', '^((?!secret).)*limit\.exceeded((?!secret).)*$', '^$']


=== the limit's headers come once
--- request
GET /limited
--- after_request eval
sub {
    is_deeply([map { scalar @{values_of(raw('/limited'), $_)} } 'RateLimit', 'RateLimit-Policy', 'Retry-After'], [1, 1, 1], 'refused');
}
--- raw_response_headers_like: RateLimit: [^\n]*\r\n(?!.*RateLimit: )


=== nginx's own guards of the location win, and nothing of the answer is shown
--- config
location / { gateway_pass gateway; }
location = /closed { deny all; gateway_pass gateway; }
location = /asked { auth_request /refuses; gateway_pass gateway; }
location = /away { deny all; gateway_pass gateway; }
location = /refuses { internal; return 401; }
--- request eval
["GET /closed", "GET /asked", "GET /away"]
--- error_code eval
[403, 401, 403]
--- response_headers eval
["! X-Secret\nContent-Type: text/html", "! X-Secret\nContent-Type: text/html", "! Location\nContent-Type: text/html"]
--- response_body_unlike eval
["secret", "secret", "elsewhere"]
--- no_error_log
[alert]
[emerg]


=== a location without an upstream of its own: `gateway on` answers all the same
--- config
location / { gateway on; root html; index none; }
location /files/ { gateway on; try_files /none @app; }
location @app { gateway_pass gateway; }
--- request eval
["GET /text", "GET /gone"]
--- error_code eval
[200, 404]
--- response_body eval
["hello\n", "not here\n"]


=== through a named location
--- gateway
version: 1
limiters: [{name: two, key: [global], rate: 1/h, burst: 2}]
routes: [{name: t, paths: ["/t"], limits: [two], reply: {body: "hello\n"}}]
--- config
location / { gateway on; try_files /none @app; }
location @app { gateway_pass gateway; }
--- request eval
["GET /t", "GET /t", "GET /t"]
--- error_code eval
[200, 200, 429]
--- response_body_like eval
['^hello\n$', '^hello\n$', 'limit\.exceeded']


=== satisfy any: another module lets in whom auth refuses, and the reply comes
--- config
location = /private { satisfy any; allow 127.0.0.1; deny all; gateway_pass gateway; }
location = /text { satisfy any; deny all; gateway_pass gateway; }
--- request eval
["GET /private", "GET /text"]
--- error_code_like eval
['^200$', '^403$']
--- no_error_log
[alert]
[emerg]


=== filters of nginx take it like any content: gzip, sub_filter, SSI, add_header, ranges
--- gateway
version: 1
routes:
  - {name: long, paths: ["/long"], reply: {headers: {Content-Type: text/x-long}, body: "LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG"}}
  - {name: packed, paths: ["/packed"], reply: {headers: {Content-Encoding: br, Content-Type: text/x-long}, body: "LONG LONG LONG LONG LONG LONG LONG LONG LONG LONG"}}
  - {name: page, paths: ["/page"], reply: {body: "[<!--# include virtual='/part' -->]"}}
  - {name: part, paths: ["/part"], reply: {headers: {X-Part: p}, body: "part of it"}}
  - {name: empty, paths: ["/empty"], reply: {status: 200}}
--- config
location / {
    gateway_pass gateway;
    gzip on;
    gzip_min_length 1;
    gzip_types text/x-long;
    gzip_http_version 1.0;
    sub_filter_types *;
    sub_filter_once off;
    sub_filter LONG SHORT;
    ssi on;
    ssi_types *;
    add_header X-Added "$gateway_route $sent_http_content_type" always;
}
--- request eval
["GET /long", "GET /long", "GET /packed", "GET /page", "GET /empty", "GET /part"]
--- more_headers eval
["", "Accept-Encoding: gzip", "Accept-Encoding: gzip", "", "Accept-Encoding: gzip", "Range: bytes=0-3"]
--- response_headers eval
["X-Added: long text/x-long\n! Content-Encoding", "Content-Encoding: gzip", "Content-Encoding: br", "! X-Part", "Content-Length: 0", "X-Part: p"]
--- response_body_like eval
['^SHORT( SHORT)*$', '^\x1f\x8b', '^SHORT( SHORT)*$', '^\[part of it\]$', '^$', '^part of it$']
--- no_error_log
[alert]
[emerg]


=== Lua's captures
--- skip_eval: 5: !lua()
--- main_config
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
--- config
location / { gateway_pass gateway; }
location = /lua { content_by_lua_block {
    for _, path in ipairs {"/text", "/none", "/away", "/later"} do
        local answer = ngx.location.capture(path)
        ngx.say(answer.status, " ", answer.body:gsub("\n", ""), " ", answer.header["Location"] or answer.header["Retry-After"])
    end
} }
--- request
GET /lua
--- response_body
200 hello nil
204  nil
302  https://elsewhere.example/
503 later 120
--- no_error_log
[alert]
[emerg]


=== through redirects: try_files, error_page, X-Accel-Redirect
--- http_config
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { add_header X-Accel-Redirect $arg_to; return 200; }
    location = /broken { return 500; }
}
--- config
location / { gateway_pass gateway; }
location /files/ { gateway on; root html; try_files $uri /text; }
location /pages/ { gateway_pass gateway; root html; error_page 404 /json; }
location = /broken { gateway_pass gateway; proxy_intercept_errors on; error_page 500 =203 /typed; }
location /other/ { root html; error_page 404 /private; }
--- user_files
>>> files/f.txt
file
--- request eval
["GET /files/f.txt", "GET /files/none", "GET /x?to=/text", "GET /x?to=/away", "GET /x?to=/private", "GET /x?to=/none", "GET /broken", "GET /other/none", "GET /other/none", "HEAD /x?to=/text"]
--- more_headers eval
["", "", "", "", "", "", "", "", $::Token, ""]
--- error_code eval
[200, 200, 200, 302, 401, 204, 203, 401, 404, 200]
--- response_headers eval
["! X-Accel-Redirect", "Content-Length: 6", "Content-Length: 6", "Location: https://elsewhere.example/", "! X-Secret", "! Content-Length", "Content-Type: text/html", "! X-Secret", "X-Secret: s", "Content-Length: 6"]
--- response_body_like eval
['^file\n$', '^hello\n$', '^hello\n$', '^$', 'auth\.missing', '^$', '^<p>\n$', 'auth\.missing', '^secret\n$', '^$']
--- no_error_log
[alert]
[emerg]


=== as a subrequest: auth_request asks a route, SSI includes one
--- config
location /a { auth_request /yes; gateway_pass gateway; }
location /b { auth_request /no; gateway_pass gateway; }
location / { gateway_pass gateway; }
location = /page { root html; ssi on; ssi_types *; rewrite ^ /page.txt break; }
--- user_files
>>> page.txt
[<!--# include virtual="/text" -->|<!--# include virtual="/gone" -->|<!--# include virtual="/none" -->|<!--# include virtual="/typed" -->]
--- request eval
["GET /a", "GET /b", "GET /page", "HEAD /a", "POST /a\nbody"]
--- error_code eval
[200, 403, 200, 200, 200]
--- response_body_like eval
['^one GET /a', '^((?!one).)*$', '^\[hello\n\|not here\n\|\|<p>\n\]\n$', '^$', '^one POST /a']
--- response_headers eval
["X-Backend: one", "! X-Backend", "! X-Backend", "X-Backend: one", "X-Backend: one"]
--- no_error_log
[alert]
[emerg]


=== auth_request takes a status that is neither 2xx, 401 nor 403 for an error, and a guarded reply refuses
--- config
location /a { auth_request /later; gateway_pass gateway; }
location /b { auth_request /private; gateway_pass gateway; }
location / { gateway_pass gateway; }
--- request eval
["GET /a", "GET /b"]
--- more_headers eval
["", $::Token]
--- error_code eval
[500, 401]
--- response_body_unlike eval
["secret|later|one GET", "secret|one GET"]
--- no_error_log
[alert]
[emerg]


=== redirects: the status, and where to as it is written
--- gateway
version: 1
routes:
  - {name: found, paths: ["/found"], redirect: {to: /new}}
  - {name: s301, paths: ["/301"], redirect: {to: "https://other.example/x?a=b#c", status: 301}}
  - {name: s303, paths: ["/303"], redirect: {to: /new, status: 303}}
  - {name: s307, paths: ["/307"], redirect: {to: /new, status: 307}}
  - {name: s308, paths: ["/308"], redirect: {to: "http://other.example:8080", status: 308}}
--- request
GET /found
--- after_request eval
sub {
    redirects(['/found', 302, '/new'], ['/301', 301, 'https://other.example/x?a=b#c'], ['/303', 303, '/new'], ['/307', 307, '/new'],
        ['/308', 308, 'http://other.example:8080'], ['/found?a=b', 302, '/new']);
    my $post = get('/307', method => 'POST', body => 'x');
    is("$post->{status} $post->{headers}{location}", '307 /new', 'a POST');
}
--- error_code: 302
--- response_headers
Location: /new
Content-Length: 0
! Content-Type


=== redirects: what a client sends cannot get out of its place
--- gateway
version: 1
routes:
  - {name: tail, paths: ["/t/{*rest}"], redirect: {to: "/{rest}"}}
  - {name: url, paths: ["/u/{id}/{*rest}"], redirect: {to: "https://other.example/{id}/x/{rest}?from={id}#{id}"}}
  - {name: host, paths: ["/h/{id}"], redirect: {to: "https://other.example/{id}"}}
--- config
merge_slashes off;
location / { gateway_pass gateway; }
--- request
GET /t/a
--- after_request eval
sub {
    redirects(
        ['/t/a/b', 302, '/a/b'], ['/t/a%20b', 302, '/a%20b'], ['/t/a%3Fb=c', 302, '/a%3Fb%3Dc'], ['/t/a%23b', 302, '/a%23b'],
        ['/t/%C3%BC', 302, '/%C3%BC'], ['/t/a?b=c', 302, '/a'], ['/t/%25%30%61', 302, '/%250a'],
        ['/u/1/2/3', 302, 'https://other.example/1/x/2/3?from=1#1'], ['/u/a&b=c/x', 302, 'https://other.example/a%26b%3Dc/x/x?from=a%26b%3Dc#a%26b%3Dc'],
        ['/u/%C3%A9@evil/x', 302, 'https://other.example/%C3%A9%40evil/x/x?from=%C3%A9%40evil#%C3%A9%40evil'],
        # Neither a line of its own nor another host.
        ['/t/a%0d%0aSet-Cookie:%20x', 400], ['/t/%0d%0a%0d%0a<script>', 400], ['/t/a%0aX:y', 400], ['/t/a%00', 400],
        ['/t//evil.example/x', 400], ['/t/%2Fevil.example', 400], ['/t/%5Cevil.example', 400], ['/t/\\evil.example', 302, '/%5Cevil.example'],
        ['/h/@evil.example', 302, 'https://other.example/%40evil.example'], ['/h/.evil.example', 302, 'https://other.example/.evil.example'],
        ['/h/..%2f', 400],
    );
}
--- error_code: 302
--- response_headers
Location: /a


=== HTTP/2
--- skip_eval: 12: library() ne 'own'
--- http2
--- request eval
["GET /json", "GET /away", "POST /text", "GET /none", "HEAD /text"]
--- error_code eval
[201, 302, 200, 204, 200]
--- response_headers eval
["Content-Type: application/json\nX-A: one", "Location: https://elsewhere.example/", "Content-Length: 6", "! Content-Length", "Content-Length: 6"]
--- response_body_like eval
['^\{', '^$', '^hello\n$', '^$', '^$']


=== an edit changes it on both workers, and a reload keeps it
--- request eval
["GET /text", "GET /text"]
--- after_request eval
[sub {
    ok(edit('body: "hello\n"', 'status: 410, body: "good bye\n"', sub { get('/text')->{status} == 410 }), 'live within a second');
    is("$_->{status} $_->{body}", "410 good bye\n", 'on each worker') for each_worker('/text');
    ok(reload(), 'reload');
    is("$_->{status} $_->{body}", "410 good bye\n", 'after a reload') for each_worker('/text');
    ok(edit('reply: {status: 410, body: "good bye\n"}', 'redirect: {to: /other}', sub { get('/text')->{status} == 302 }), 'a redirect now');
    is("$_->{headers}{location} $_->{body}", '/other ', 'on each worker') for each_worker('/text');
    ok(edit('redirect: {to: /other}', 'upstream: u', sub { get('/text')->{status} == 200 }), 'an upstream now');
}]
--- error_code eval
[200, 200]
--- response_body eval
["hello\n", "one GET /text\n"]


=== the log and the metrics know of them
--- http_config
log_format seen '$request_uri $status route=$gateway_route decision=$gateway_decision reason=$gateway_reason upstream=$gateway_upstream';
--- config
access_log logs/access.log seen;
location = /metrics { gateway_metrics; }
location / { gateway_pass gateway; }
--- request eval
["GET /text", "GET /later", "GET /away"]
--- error_code eval
[200, 503, 302]
--- after_request eval
[undef, undef, sub {
    my $log = accesses();
    like($log, qr{^/text 200 route=text decision=\w+ reason=- upstream=-$}m, 'a reply');
    like($log, qr{^/later 503 route=later decision=\w+ reason=- upstream=-$}m, 'an error that is a reply');
    like($log, qr{^/away 302 route=away decision=\w+ reason=- upstream=-$}m, 'a redirect');
    like(get('/metrics')->{body}, qr/^gateway_requests_total\{[^}]*route="later"[^}]*\} 1$/m, 'counted');
}]


=== misconfigured: two answers, a body where there is none, headers that are nginx's, a status out of range, a host by parameter
--- gateway
version: 1
routes:
  - {name: a, paths: ["/a"], reply: {status: 204}, redirect: {to: /b}}
  - {name: b, paths: ["/b"], reply: {status: 204, body: x}}
  - {name: c, paths: ["/c"], reply: {headers: {Content-Length: "1"}}}
  - {name: d, paths: ["/d"], reply: {status: 199}}
  - {name: e, paths: ["/e/{h}"], redirect: {to: "https://{h}/"}}
  - {name: f, paths: ["/f"], redirect: {to: //evil.example}}
  - {name: g, paths: ["/g"], redirect: {to: "/{id}", status: 304}}
  - {name: h, paths: ["/h"], reply: {headers: {X-A: "a\nX-B: b"}}}
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: routes\[0\]: has both `reply` and `redirect`/, qr/gateway\.yaml:4: routes\[1\]\.reply\.body: an answer of status 204 has no body/,
 qr/gateway\.yaml:5: routes\[2\]\.reply\.headers/, qr/gateway\.yaml:6: routes\[3\]\.reply\.status: must be/,
 qr/gateway\.yaml:7: routes\[4\]\.redirect\.to: the host is written out/, qr/gateway\.yaml:8: routes\[5\]\.redirect\.to: `\/\/` begins another host/,
 qr/gateway\.yaml:9: routes\[6\]\.redirect\.status: must be 301/, qr/gateway\.yaml:9: routes\[6\]\.redirect\.to: needs the parameter `id`/,
 qr/gateway\.yaml:10: routes\[7\]\.reply\.headers/]
--- suppress_stderr
