# Who gets in: JSON Web Tokens from header, query and cookie, permissions, and what the backend is told.

use lib 't';
use Gateway 'no_plan';

our $Secret = 'a secret that is longer than 32 bytes';
our $Good   = jwt({iss => 'i', aud => 'a', sub => 'ada', permissions => ['orders:read']}, $Secret);
our $Other  = jwt({iss => 'i', aud => 'a', sub => 'bob', permissions => ['invoices:read']}, $Secret);
our $Gone   = jwt({iss => 'i', aud => 'a', sub => 'ada', exp => 1}, $Secret);
our $Forged = jwt({iss => 'i', aud => 'a', sub => 'ada'}, 'another secret of more than 32 bytes');
our $None   = jwt({iss => 'i', aud => 'a', sub => 'ada'}, $Secret, {alg => 'none'});
our $Aud    = jwt({iss => 'i', aud => 'b', sub => 'ada'}, $Secret);

$ENV{T_SECRET} = $Secret;
env_to_nginx('T_SECRET');

our $Policy = <<'YAML';
version: 1
auth:
  - name: people
    jwt:
      issuer: i
      audience: a
      keys: [{alg: HS256, secret: "$env://T_SECRET"}]
      claims: {consumer: sub, permissions: permissions, headers: {X-User: sub}}
  - name: elsewhere
    jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], source: ["query:token", "cookie:sid"]}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: open, paths: ["/*"], upstream: u}
  - {name: orders, paths: ["/orders/*"], upstream: u, auth: [people], permissions: {any: ["orders:read"]}}
  - {name: headers, paths: ["/headers"], upstream: u, auth: [people]}
  - {name: elsewhere, paths: ["/elsewhere/*"], upstream: u, auth: [elsewhere]}
YAML

run_tests();

__DATA__

=== nothing shown, bad ones, no permission, a good one: and nothing that tells why a token failed
--- gateway eval: $::Policy
--- request eval
[map { "GET /orders/1" } 1 .. 8]
--- more_headers eval
["", map({ "Authorization: Bearer $_" } $::Gone, $::Forged, $::None, $::Aud, "x.y.z", $::Other, $::Good)]
--- error_code eval
[401, 401, 401, 401, 401, 401, 403, 200]
--- response_headers eval
[("WWW-Authenticate: Bearer\nContent-Type: application/problem+json") x 6, "!WWW-Authenticate\nContent-Type: application/problem+json", "X-Backend: one"]
--- response_body_like eval
[qr/^\{"type":"about:blank","title":"Unauthorized","status":401,"detail":"Credentials are required\.","code":"auth\.missing","request_id":"[0-9a-f-]{36}"\}$/,
 (qr/^\{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The credentials are not valid\.","code":"auth\.invalid","request_id":"[0-9a-f-]{36}"\}$/) x 5,
 qr/^\{"type":"about:blank","title":"Forbidden","status":403,"detail":"The credentials do not permit this request\.","code":"permission\.missing","request_id":"[0-9a-f-]{36}"\}$/,
 qr/^one GET \/orders\/1$/]


=== two Authorization lines (nginx itself refuses them), other schemes, stray bytes
--- gateway eval: $::Policy
--- request eval
[map { "GET /orders/1" } 1 .. 5]
--- more_headers eval
["Authorization: Bearer $::Good\nAuthorization: Bearer $::Good", "Authorization: Basic YTpi", "Authorization: bearer   $::Good", "Authorization: Bearer $::Good x", "Authorization: xBearer $::Good"]
--- error_code eval
[400, 401, 200, 401, 401]


=== an open route asks for nothing and takes no notice of a bad token
--- gateway eval: $::Policy
--- request eval
["GET /a", "GET /a"]
--- more_headers eval
["", "Authorization: Bearer x.y.z"]
--- error_code eval
[200, 200]


=== claims become headers; the client's own are dropped in every spelling, on every route
--- http_config
underscores_in_headers on;
--- gateway eval: $::Policy =~ s{name: open, paths: \["/\*"\]}{name: open, paths: ["/*", "/headers/*"]}r
--- request eval
["GET /headers", "GET /headers/../headers?", "GET /headers"]
--- more_headers eval
["Authorization: Bearer $::Good\nX-User: root\nx_user: root\nX-Forwarded-For: 1.2.3.4\nX-Real-IP: 1.2.3.4\nX_Forwarded_For: 1.2.3.4",
 "Authorization: Bearer $::Good\nX_USER: root", "Authorization: Bearer $::Other"]
--- response_body_like eval
[qr/xff=127\.0\.0\.1 .*user=ada$/, qr/user=ada$/, qr/user=bob$/]


=== a token in the query or a cookie
--- gateway eval: $::Policy
--- request eval
["GET /elsewhere/1?token=$::Good", "GET /elsewhere/1", "GET /elsewhere/1?token=$::Good&token=$::Good", "GET /elsewhere/1?token=x", "GET /elsewhere/1"]
--- more_headers eval
["", "Cookie: a=b; sid=$::Good", "", "", "Authorization: Bearer $::Good"]
--- error_code eval
[200, 200, 401, 401, 401]


=== other keys act on the next request, on both workers, also for a token that was known; a reload changes nothing
--- gateway eval: $::Policy
--- request
GET /orders/1
--- more_headers eval: "Authorization: Bearer $::Good"
--- after_request eval
sub {
    my $headers = "Authorization: Bearer $::Good";
    is_deeply(burst(16, '/orders/1', headers => $headers), {200 => 16}, 'known on both workers');
    ok(reload(), 'reload');
    is_deeply(burst(16, '/orders/1', headers => $headers), {200 => 16}, 'known to the new workers');
    ok(edit("audience: a\n", "audience: z\n", sub { (burst(16, '/orders/1', headers => $headers)->{401} // 0) == 16 }), 'and to nobody any more');
}


=== secrets stay out of logs and answers
--- gateway eval: $::Policy
--- request eval
["GET /orders/1", "GET /metrics"]
--- more_headers eval
["Authorization: Bearer $::Forged", ""]
--- error_code eval
[401, 200]
--- response_body_unlike eval
[qr/a secret that is/, qr/a secret that is/]
--- no_error_log eval
["a secret that is", $::Forged, "[error]"]
