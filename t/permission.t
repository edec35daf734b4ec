# Permissions: what a token, its roles and its consumer grant, held against what a route requires.

use lib 't';
use Gateway 'no_plan';

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
env_to_nginx('T_SECRET');

# Rows of [claims, path, status].
sub Test::Base::Filter::asks {
    for (@_) {
        my ($claims, $path, $status) = @$_;
        my $token = jwt({iss => 'i', aud => 'a', sub => 'ada', %$claims}, $main::Secret);
        is(get($path, headers => "Authorization: Bearer $token")->{status}, $status,
            "$path -> $status for " . JSON::PP->new->canonical->encode($claims));
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth:
  - name: people
    jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {consumer: client, permissions: permissions, roles: realm.roles}}
roles:
  - {name: clerk, permissions: ["orders:read", "orders:write"]}
consumers:
  - {name: acme, permissions: ["orders:*"]}
  - {name: shop, roles: [clerk]}
  - {name: gone, enabled: false, permissions: ["**"]}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: any, paths: ["/any"], upstream: u, auth: [people], permissions: {any: ["orders:read", "admin"]}}
  - {name: all, paths: ["/all"], upstream: u, auth: [people], permissions: {all: ["orders:read", "orders:write"]}}
  - {name: deep, paths: ["/deep"], upstream: u, auth: [people], permissions: {any: ["orders:eu:read"]}}
  - {name: none, paths: ["/none"], upstream: u, auth: [people]}
YAML
});

run_tests();

__DATA__

=== any and all; a star is one segment, two are the rest; a claim of the wrong type grants nothing
--- request
GET /any
--- after_request eval
sub {
    asks(
        [{permissions => ['orders:read']}, '/any', 200], [{permissions => ['admin']}, '/any', 200],
        [{permissions => 'a orders:read b'}, '/any', 200], [{permissions => ['orders']}, '/any', 403],
        [{permissions => ['orders:rea']}, '/any', 403], [{permissions => ['ORDERS:READ']}, '/any', 403],
        [{permissions => []}, '/any', 403], [{}, '/any', 403], [{permissions => {'orders:read' => 1}}, '/any', 403],
        [{permissions => 7}, '/any', 403], [{permissions => ['orders:*']}, '/any', 200], [{permissions => ['*']}, '/any', 200],
        [{permissions => ['**']}, '/any', 200], [{permissions => ['*:write']}, '/any', 403],
        [{permissions => ['orders:read']}, '/all', 403], [{permissions => ['orders:read', 'orders:write']}, '/all', 200],
        [{permissions => ['orders:*']}, '/all', 200], [{permissions => ['orders:*']}, '/deep', 403],
        [{permissions => ['orders:**']}, '/deep', 200], [{permissions => ['orders:*:read']}, '/deep', 200],
        [{permissions => ['*']}, '/deep', 403], [{}, '/none', 200],
    );
}
--- error_code: 401


=== roles of the token, permissions and roles of the consumer; they count together
--- request
GET /any
--- after_request eval
sub {
    asks(
        [{realm => {roles => ['clerk']}}, '/all', 200], [{realm => {roles => ['nobody']}}, '/any', 403],
        [{realm => {roles => 'clerk other'}}, '/any', 200], [{roles => ['clerk']}, '/any', 403],
        [{client => 'acme'}, '/all', 200], [{client => 'shop'}, '/all', 200], [{client => 'stranger'}, '/any', 403],
        [{client => 'acme', permissions => ['other']}, '/deep', 403],
        # A consumer that is switched off is refused whatever it holds.
        [{client => 'gone'}, '/any', 401], [{client => 'gone', permissions => ['orders:read']}, '/none', 401],
    );
}
--- error_code: 401


=== refused: 403 says that and no more
--- request
GET /any
--- more_headers eval
"Authorization: Bearer " . jwt({iss => 'i', aud => 'a', sub => 'ada', permissions => ['orders:list']}, $::Secret)
--- error_code: 403
--- response_headers
Content-Type: application/problem+json
! WWW-Authenticate
! X-Backend
--- response_body_like
^\{"type":"about:blank","title":"Forbidden","status":403,"detail":"The credentials do not permit this request\.","code":"permission\.missing","request_id":"[^"]*"\}$


=== an edit of a role or a consumer acts on the next request, on both workers, and outlives a reload
--- request
GET /any
--- after_request eval
sub {
    my @shop = (headers => 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', client => 'shop'}, $main::Secret));
    is($_->{status}, 200, 'granted by each worker') for each_worker('/all', @shop);
    ok(edit('"orders:read", "orders:write"]}' . "\nconsumers", "\"orders:read\"]}\nconsumers", sub { get('/all', @shop)->{status} == 403 }),
        'taken away within a second');
    is($_->{status}, 403, 'by each worker') for each_worker('/all', @shop);
    is($_->{status}, 200, 'what is left is left') for each_worker('/any', @shop);
    ok(reload(), 'reload');
    is($_->{status}, 403, 'still') for each_worker('/all', @shop);
    is($_->{status}, 200, 'still') for each_worker('/any', @shop);
}
--- error_code: 401


=== misconfigured: a wildcard in what is required, both any and all, no auth, a role of nobody
--- gateway
version: 1
auth: [{name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}]}}]
consumers:
  - {name: c, roles: [nobody]}
  - {name: d, permissions: ["orders:**:read"]}
routes:
  - {name: a, paths: ["/a"], auth: [p], permissions: {any: ["orders:*"]}}
  - {name: b, paths: ["/b"], auth: [p], permissions: {any: [x], all: [y]}}
  - {name: c, paths: ["/c"], permissions: {any: [x]}}
--- must_die
--- error_log eval
[qr/gateway\.yaml:4: consumers\[0\]\.roles\[0\]: .*`nobody`/, qr/gateway\.yaml:5: consumers\[1\]\.permissions\[0\]: /,
 qr/gateway\.yaml:7: routes\[0\]\.permissions\.any\[0\]: /, qr/gateway\.yaml:8: routes\[1\]\.permissions: needs `any` or `all`, not both/,
 qr/gateway\.yaml:9: routes\[2\]\.permissions: need `auth`/]
