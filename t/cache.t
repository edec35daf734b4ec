# nginx's proxy_cache under a route's `cache`: who is answered from what, for how long, and what is never kept.

use lib 't';
use Gateway 'no_plan';

use IO::Select;
use IO::Socket::INET;
use JSON::PP ();

our $Secret = $ENV{T_SECRET} = 'a secret that is longer than 32 bytes';
$ENV{T_ANN} = 'key-of-ann-0123456789';
$ENV{T_BOB} = 'key-of-bob-0123456789';
env_to_nginx('T_SECRET', 'T_ANN', 'T_BOB');

our $Down = $ENV{TEST_NGINX_SERVROOT} . '/html/down';

package Test::Base::Filter {

    # `MISS`, `HIT`, ...; with `$fresh` whether the answers come from one fetch.
    sub status { return get(@_)->{headers}{'x-cache-status'} // '-' }
    sub statuses { return CORE::join ' ', map { status($_) } @_ }

    # What the second request is answered, after the first: the cache's status, and whether both answers are one.
    sub pair {
        my ($one, $other) = @_;
        my ($first, $second) = (get(@$one), get(@$other));
        my $same = $first->{body} ne '' && $first->{body} eq $second->{body};
        return ($second->{headers}{'x-cache-status'} // '-') . ($same ? ' same' : ' other');
    }

    sub down {
        my $is_down = shift;
        if (!$is_down) { unlink $main::Down; return }
        open my $out, '>', $main::Down or die "$main::Down: $!\n";
        close $out;
    }

    # The requests that the backend has seen, as "METHOD target".
    sub fetched {
        sleep 0.05;
        open my $in, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/backend.log" or return ();
        my @lines = <$in>;
        chomp @lines;
        return @lines;
    }
}

add_block_preprocessor(sub {
    my $block = shift;
    return if defined $block->bare;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
auth:
  - {name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_SECRET"}], claims: {headers: {X-Tenant: tenant}}}}
  - {name: k, api_key: {header: X-API-Key}}
consumers: [{name: ann, api_key: "$env://T_ANN"}, {name: bob, api_key: "$env://T_BOB"}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: plain, paths: ["/*"], upstream: u}
  - {name: c, paths: ["/c/*"], upstream: u, cache: {zone: api, ttl: 1m}}
  - {name: told, paths: ["/told/*"], upstream: u, cache: {zone: api}}
  - {name: mine, paths: ["/mine/*"], upstream: u, auth: [p], cache: {zone: api, ttl: 1m}}
  - {name: keyed, paths: ["/keyed/*"], upstream: u, auth: [k], cache: {zone: api, ttl: 1m}}
  - {name: ours, paths: ["/ours/*"], upstream: u, auth: [k], cache: {zone: api, ttl: 1m, key: {consumer: shared}}}
  - {name: query, paths: ["/query/*"], upstream: u, cache: {zone: api, ttl: 1m, key: {query: {deny: ["utm_*"]}, headers: [X-Lang], cookies: [ab]}}}
  - {name: few, paths: ["/few/*"], upstream: u, cache: {zone: api, ttl: 1m, key: {query: {allow: [q]}}}}
  - {name: get, paths: ["/get/*"], upstream: u, cache: {zone: api, ttl: 1m, methods: [GET]}}
  - {name: stripped, paths: ["/stripped/*"], upstream: u, strip_prefix: true, cache: {zone: api, ttl: 1s, stale_while_revalidate: 1m}}
  - {name: stale, paths: ["/stale/*"], upstream: u, cache: {zone: api, ttl: {200: 1s, 404: 1m}, stale_if_error: 1m}}
  - {name: brief, paths: ["/brief/*"], upstream: u, cache: {zone: api, ttl: 1s}}
  - {name: swr, paths: ["/swr/*"], upstream: u, cache: {zone: api, ttl: 1s, stale_while_revalidate: 1m}}
  - {name: any, paths: ["/any/*"], upstream: u, cache: {zone: api, ttl: {any: 1m}, lock: 0s}}
  - {name: tagged, paths: ["/tagged/*"], upstream: u, cache: {zone: api, ttl: 1m, tags: [shop]}}
YAML
    $block->set_value(http_config => ($block->http_config // '') . <<'CONF');
proxy_cache_path cache keys_zone=api:1m use_temp_path=off;
log_format backend '$request_method $request_uri';
map $http_x_status $said { default 200; ~^(?<n>\d+)$ $n; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    access_log logs/backend.log backend;
    add_header Cache-Control $http_x_cc always;
    add_header Set-Cookie $http_x_cookie always;
    add_header Vary $http_x_vary always;
    add_header Vary $http_x_vary_too always;
    add_header Age $http_x_age always;
    add_header X-Said "$http_x_original_url|$http_host|$http_x_tenant" always;
    location / {
        if (-f $document_root/down) { return 500 "down\n"; }
        if ($said = 400) { return 400 "$request_id\n"; }
        if ($said = 404) { return 404 "$request_id\n"; }
        if ($said = 503) { return 503 "$request_id\n"; }
        return 200 "$request_id $request_method $request_uri\n";
    }
    location ~ /file$ { root html; try_files /file =404; }
    location ~ /packed$ { gzip on; gzip_vary on; gzip_min_length 1; gzip_types *; gzip_http_version 1.0; gzip_proxied any; root html; try_files /file =404; }
    location ~ /slow { limit_rate 1k; return 200 "$request_id 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\n"; }
}
CONF
    $block->set_value(config => <<'CONF') if !defined $block->config;
        add_header X-Zone $gateway_cache always;
        add_header X-Key $gateway_cache_key always;
        add_header X-Route $gateway_route always;
        add_header X-Worker $pid always;
        location / { gateway_pass gateway; proxy_cache $gateway_cache; proxy_cache_key $gateway_cache_key; }
CONF
    $block->set_value(user_files => ($block->user_files // '') . ">>> file\n0123456789abcdef\n") if !ref $block->user_files;
});

run_tests();

__DATA__

=== the second request is answered from the first, on each worker; a route without cache is not touched
--- request eval
["GET /c/a", "GET /c/a", "GET /a", "GET /a", "POST /c/a"]
--- response_headers_like eval
["X-Cache-Status: MISS\nCache-Status: gateway; fwd=uri-miss; fwd-status=200; stored\nX-Zone: api\nX-Key: [0-9a-f]{32}\nAge: ",
 "X-Cache-Status: HIT\nCache-Status: gateway; hit; ttl=(60|59)\nX-Zone: api\nAge: [01]",
 "X-Cache-Status: \nCache-Status: \nX-Zone: off\nX-Key: ",
 "X-Cache-Status: \nX-Zone: off",
 "X-Cache-Status: \nX-Zone: off"]
--- after_request eval
[(undef) x 4, sub {
    is($_->{headers}{'x-cache-status'}, 'HIT', 'on each worker') for each_worker('/c/a');
    is(status('/c/a', host => 'LOCALHOST'), 'HIT', 'whatever the case of the host');
    is(status('/c/a', host => 'localhost:1'), 'MISS', 'a port is forwarded, so it counts');
    is(status('/c/a', host => 'other'), 'MISS', 'another host');
    is(scalar(grep { $_ eq 'GET /c/a' } fetched()), 3, 'the backend was asked for each of them once');
}]


=== what is the same request and what is not
--- request
GET /
--- after_request eval
sub {
    my $on = "X-Cc: public, max-age=60\r\n";
    for my $case (
        ['the very same', ['/c/1?x=1'], ['/c/1?x=1'], 'HIT same'],
        ['another query', ['/c/2?x=1'], ['/c/2?x=2'], 'MISS other'],
        ['another order of the query', ['/c/3?b=2&a=1'], ['/c/3?a=1&b=2'], 'HIT same'],
        ['another order of equal names', ['/c/4?a=2&a=1'], ['/c/4?a=1&a=2'], 'MISS other'],
        ['needless encoding', ['/c/5?a=%7e'], ['/c/5?a=~'], 'HIT same'],
        ['needed encoding', ['/c/6?a=%26b'], ['/c/6?a=&b'], 'MISS other'],
        ['a question mark', ['/c/7?'], ['/c/7'], 'HIT same'],
        ['dot segments', ['/c/8'], ['/c/x/../8'], 'HIT same'],
        ['merged slashes', ['/c/9'], ['/c//9'], 'HIT same'],
        ['a path that reads the same and is sent otherwise', ['/c/10%3b'], ['/c/10;'], 'MISS other'],
        ['HEAD after GET', ['/c/11'], ['/c/11', method => 'HEAD'], 'HIT other'],
        ['a GET with a body', ['/c/12'], ['/c/12', body => 'x=1'], '- other'],
        ['POST before GET', ['/c/13', method => 'POST'], ['/c/13'], 'MISS other'],
        ['another path for some servers', ['/c/14', headers => 'X-Original-URL: /evil'], ['/c/14'], 'MISS other'],
        ['another method for some servers', ['/c/15', headers => 'X-HTTP-Method-Override: DELETE'], ['/c/15'], 'MISS other'],
        ['another host for some servers', ['/c/16', headers => 'X-Forwarded-Host: evil'], ['/c/16'], 'HIT same'],
        ['what is denied', ['/query/1?a=1&utm_source=x'], ['/query/1?a=1'], 'HIT same'],
        ['what is denied, encoded', ['/query/2?a=1&%75tm_source=x'], ['/query/2?a=1'], 'HIT same'],
        ['what is not allowed', ['/few/1?q=1&page=2'], ['/few/1?q=1'], 'HIT same'],
        ['what is allowed', ['/few/2?q=1'], ['/few/2?q=2'], 'MISS other'],
        ['a chosen header', ['/query/3', headers => 'X-Lang: de'], ['/query/3', headers => 'X-Lang: en'], 'MISS other'],
        ['a chosen header that is not there', ['/query/4', headers => 'X-Lang: de'], ['/query/4'], 'MISS other'],
        ['another header', ['/query/5', headers => 'X-Other: a'], ['/query/5', headers => 'X-Other: b'], 'HIT same'],
        ['a chosen cookie', ['/query/6', headers => 'Cookie: x=1; ab=a'], ['/query/6', headers => 'Cookie: ab=b'], 'MISS other'],
        ['another cookie', ['/query/7', headers => 'Cookie: x=1; ab=a'], ['/query/7', headers => 'Cookie: ab=a; x=2'], 'HIT same'],
        ['HEAD where GET alone is kept', ['/get/1'], ['/get/1', method => 'HEAD'], '- other'],
    ) {
        my ($name, $one, $other, $expected) = @$case;
        is(pair($one, $other), $expected, $name);
    }
    my @sent = fetched();
    is(scalar(grep { m{^GET /c/3\?a=1&b=2$} } @sent), 1, 'what is forwarded is what is in the key');
    is(scalar(grep { m{utm} } @sent), 0, 'what is denied is not sent on');
    is(scalar(grep { m{page} } @sent), 0, 'nor is what is not allowed');
    is(scalar(grep { m{^GET /c/10%3b$} } @sent), 1, 'a path goes out as it came');
    is(get('/c/14')->{headers}{'x-said'} =~ /evil/, '', 'nobody is answered what was asked for with such a header');
    is(get('/query/8?a=1&utm_x=1')->{body} =~ m{/query/8\?a=1$}m, 1, 'and the backend saw the same');
}


=== the corpus of request pairs
--- request
GET /
--- after_request eval
sub {
    my $file = ($ENV{GATEWAY_VECTORS} // '/none') . '/own/cache_key_cases.json';
    $file = "$ENV{TEST_NGINX_SERVROOT}/../../tests/data/own/cache_key_cases.json" if !-f $file;
    open my $in, '<', $file or die "$file: $!\n";
    my $cases = do { local $/; JSON::PP::decode_json(<$in>)->{cases} };
    # The answer's own word and the ttl of a route, once each.
    for my $case (@$cases) {
        # One connection has one scheme, and the library's test looks at the digest.
        next if $case->{expect} eq 'not_equal' || $case->{name} eq 'scheme';
        my %said = %{$case->{response_headers}};
        my @say;
        push @say, "X-Cc: $said{'Cache-Control'}" if defined $said{'Cache-Control'};
        push @say, "X-Cookie: $said{'Set-Cookie'}" if defined $said{'Set-Cookie'};
        push @say, "X-Vary: $said{Vary}" if defined $said{Vary};
        push @say, "X-Status: $said{status}" if defined $said{status};
        my ($one, $other) = map {
            my $side = $_;
            my ($host) = map { $_->[1] } grep { $_->[0] eq 'Host' } @{$side->{headers}};
            my @lines = map { "$_->[0]: $_->[1]" } grep { $_->[0] ne 'Host' } @{$side->{headers}};
            (my $target = $side->{target}) =~ s{^/(\./)?(?=c|me)}{"/" . ($1 // '') . "told/$case->{id}/"}e;
            # Routes that take a version as an input name the header.
            $target =~ s{/told/}{/version/} if $case->{name} eq 'version header';
            [$target, host => $host // 'localhost', method => $side->{method}, headers => CORE::join "\r\n", @lines, @say];
        } @$case{qw(a b)};
        my ($first, $second) = (get(@$one), get(@$other));
        my $hit = ($second->{headers}{'x-cache-status'} // '-') eq 'HIT';
        my $stored = ($first->{headers}{'cache-status'} // '') =~ /stored/;
        my %holds = (
            hit => $hit, miss => !$hit, never => !$hit, either => 1, not_from_head => $second->{body} ne '',
            miss_or_never => !$hit, no_partial_as_full => $second->{status} == 200 && length $second->{body} > 30,
            not_poisoned => ($second->{headers}{'x-said'} // '') !~ /evil/, error_not_cached => !$hit && !$stored,
            same_as_route => $hit, either_no_panic => $second->{status} == 200, revalidate_or_never => !$hit && !$stored,
        );
        ok($holds{$case->{expect}} // die("$case->{expect}\n"), "$case->{id} $case->{name}: $case->{expect}")
            or diag(CORE::join ' | ', $one->[0], $other->[0], map { $_ // '-' } $first->{headers}{'cache-status'}, $second->{headers}{'cache-status'});
    }
}
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes:
  - {name: plain, paths: ["/*"], upstream: u}
  - {name: told, paths: ["/told/*"], upstream: u, cache: {zone: api}}
  - {name: version, paths: ["/version/*"], upstream: u, cache: {zone: api, key: {headers: [X-Api-Version]}}}


=== an answer is never another consumer's
--- request
GET /
--- after_request eval
sub {
    my %who = map { $_ => 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => $_, tenant => 't1'}, $main::Secret) } qw(ada bob);
    $who{ada2} = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada', tenant => 't1', jti => 'b'}, $main::Secret);
    $who{ada_t2} = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'a', sub => 'ada', tenant => 't2'}, $main::Secret);
    my ($cc, $public) = ("X-Cc: max-age=60", "X-Cc: public, max-age=60");
    my $as = sub { my ($path, $who, @more) = @_; [$path, headers => CORE::join "\r\n", $who{$who} // $who, @more] };
    for my $case (
        ['herself, by the ttl of the route', $as->('/mine/1', 'ada'), $as->('/mine/1', 'ada'), 'HIT same'],
        ['herself with another token', $as->('/mine/2', 'ada'), $as->('/mine/2', 'ada2'), 'HIT same'],
        ['herself for another tenant', $as->('/mine/3', 'ada'), $as->('/mine/3', 'ada_t2'), 'MISS other'],
        ['another one', $as->('/mine/4', 'ada', $public), $as->('/mine/4', 'bob', $public), 'MISS other'],
        ['nobody', $as->('/mine/5', 'ada', $public), ['/mine/5', headers => $public], '- other'],
        ['an answer that does not say that it may be kept', $as->('/mine/6', 'ada', $cc), $as->('/mine/6', 'ada', $cc), 'MISS other'],
        ['a token that nobody looks at', $as->('/c/1', 'Authorization: Bearer A', $public), $as->('/c/1', 'Authorization: Bearer B', $public), 'MISS other'],
        ['nobody, after one', $as->('/c/2', 'Authorization: Bearer A', $public), ['/c/2', headers => $public], 'MISS other'],
        ['one, after nobody', ['/c/3', headers => $public], $as->('/c/3', 'Authorization: Bearer A', $public), 'MISS other'],
        ['a token that nobody looks at, by the ttl', $as->('/c/4', 'Authorization: Bearer A'), $as->('/c/4', 'Authorization: Bearer A'), 'MISS other'],
        ['by key, herself', $as->('/keyed/1', 'X-API-Key: key-of-ann-0123456789'), $as->('/keyed/1', 'X-API-Key: key-of-ann-0123456789'), 'HIT same'],
        ['by key, another one', $as->('/keyed/2', 'X-API-Key: key-of-ann-0123456789'), $as->('/keyed/2', 'X-API-Key: key-of-bob-0123456789'), 'MISS other'],
        ['by key, with a token beside it', $as->('/keyed/3', 'X-API-Key: key-of-ann-0123456789', 'Authorization: Bearer A', $public),
            $as->('/keyed/3', 'X-API-Key: key-of-ann-0123456789', 'Authorization: Bearer B', $public), 'MISS other'],
        ['shared, and public', $as->('/ours/1', 'X-API-Key: key-of-ann-0123456789', $public), $as->('/ours/1', 'X-API-Key: key-of-bob-0123456789', $public), 'HIT same'],
        ['shared, and not', $as->('/ours/2', 'X-API-Key: key-of-ann-0123456789', $cc), $as->('/ours/2', 'X-API-Key: key-of-bob-0123456789', $cc), 'MISS other'],
        ['shared, and nothing said', $as->('/ours/3', 'X-API-Key: key-of-ann-0123456789'), $as->('/ours/3', 'X-API-Key: key-of-bob-0123456789'), 'MISS other'],
    ) {
        my ($name, $one, $other, $expected) = @$case;
        is(pair($one, $other), $expected, $name);
    }
    is(get('/ours/1')->{status}, 401, 'who is not let in is answered nothing that was kept');
    like(get('/c/9', headers => "Authorization: Bearer A\r\nX-Cc: max-age=60")->{headers}{'cache-status'}, qr/detail=authorization/, 'it says why');
}


=== what is not kept, and for how long what is
--- request
GET /
--- after_request eval
sub {
    my $n = 0;
    my $twice = sub {
        my ($path, @say) = @_;
        $path .= ++$n;
        my $first = get($path, headers => CORE::join "\r\n", @say);
        return status($path, headers => CORE::join "\r\n", @say) . ' ' . ($first->{headers}{'cache-status'} =~ /detail=(\S+)/ ? $1 : '');
    };
    is($twice->('/c/', 'X-Cookie: a=b'), 'MISS ', 'a cookie, which nginx looks at');
    is($twice->('/told/'), 'MISS not-fresh', 'nothing said, and no ttl');
    is($twice->('/told/', 'X-Cc: max-age=60'), 'HIT ', 'its own word');
    is($twice->('/told/', 'X-Cc: max-age=60, max-age=0'), 'MISS contradiction', 'two words');
    is($twice->('/told/', 'X-Cc: max-age=0, s-maxage=60'), 'HIT ', 'the word for us');
    is($twice->('/c/', 'X-Cc: no-store'), 'MISS ', 'no-store');
    is($twice->('/c/', 'X-Cc: private, max-age=60'), 'MISS ', 'private');
    is($twice->('/c/', 'X-Vary: *'), 'MISS ', 'Vary: *');
    is($twice->('/c/', 'X-Vary: Accept, *'), 'MISS vary', 'Vary: *, among others');
    is($twice->('/c/', 'X-Vary: X-Other', 'X-Vary-Too: Accept'), 'MISS vary', 'Vary, twice');
    is($twice->('/c/', 'X-Status: 404'), 'MISS not-fresh', 'ttl is that of 200');
    is($twice->('/c/', 'X-Status: 400', 'X-Cc: public, max-age=60'), 'MISS status', 'an error is about its request alone');
    is($twice->('/c/', 'X-Status: 404', 'X-Cc: public, max-age=60'), 'HIT ', 'unless nothing is there');
    is($twice->('/stale/', 'X-Status: 404'), 'HIT ', 'ttl by status');
    is($twice->('/any/', 'X-Status: 503'), 'HIT ', 'ttl of any status');
    is($twice->('/c/', 'X-Cc: max-age=60', 'X-Age: 60'), 'MISS not-fresh', 'old when it came');
    get('/c/aged', headers => "X-Cc: max-age=60\r\nX-Age: 40");
    my $aged = get('/c/aged', headers => "X-Cc: max-age=60");
    like($aged->{headers}{age}, qr/^4[0-2]$/, 'it says how old it is');
    like($aged->{headers}{'cache-status'}, qr/^gateway; hit; ttl=(20|19|18)$/, 'and how long it is good');

    is(statuses('/brief/a', '/brief/a'), 'MISS HIT', 'a second');
    sleep 2.2;
    is(statuses('/brief/a', '/brief/a'), 'EXPIRED HIT', 'is over');
}


=== old answers: when no new one can be had, and while it is fetched
--- request
GET /
--- after_request eval
sub {
    down(0);
    is(statuses(map { ("/$_/a") x 2 } qw(stale brief swr stripped)), 'MISS HIT ' x 3 . 'MISS HIT', 'all are kept');
    my $old = get('/swr/a')->{body};
    my $stripped = get('/stripped/a')->{body};
    sleep 2.2;
    my $swr = get('/swr/a');
    is($swr->{headers}{'x-cache-status'}, 'STALE', 'the old one at once');
    like($swr->{headers}{'cache-status'}, qr/^gateway; hit; ttl=-\d+$/, 'without a word to the backend that it waits for');
    is($swr->{body}, $old, 'it is the old one');
    ok(until_true(2, sub { my $now = get('/swr/a'); $now->{headers}{'x-cache-status'} eq 'HIT' && $now->{body} ne $old }), 'the new one is there');
    is(get('/stripped/a')->{body}, $stripped, 'also where the path is another one behind us');
    ok(until_true(2, sub { get('/stripped/a')->{body} ne $stripped }), 'the route and its path are those of the request');
    is(scalar(grep { $_ eq 'GET /a' } fetched()), 2, 'which the backend saw twice');

    down(1);
    my $stale = get('/stale/a');
    is($stale->{headers}{'x-cache-status'} . ' ' . $stale->{status}, 'STALE 200', 'an error of the backend');
    like($stale->{headers}{'cache-status'}, qr/^gateway; fwd=stale; ttl=-\d+$/, 'says so');
    my $brief = get('/brief/a');
    is($brief->{headers}{'x-cache-status'} . ' ' . $brief->{status}, 'EXPIRED 500', 'not where no stale answer is allowed');
    down(0);
    is(status('/stale/a'), 'EXPIRED', 'a new one, once it is back');
}


=== a herd: fifty ask for the same at once, one asks the backend
--- request
GET /
--- after_request eval
sub {
    my @sockets = map {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_SERVER_PORT}, Timeout => 5) // die "connect: $!\n";
    } 1 .. 50;
    print {$_} "GET /c/slow?$$ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" for @sockets;
    $_->flush for @sockets;
    my %bodies;
    for my $socket (@sockets) {
        my $text = '';
        while (sysread $socket, $text, 65536, CORE::length $text) { }
        my ($head, $body) = split /\r\n\r\n/, $text, 2;
        $bodies{$body}++ if $head =~ m{^HTTP/1.1 200};
    }
    is_deeply([values %bodies], [50], 'all have one answer');
    is(scalar(grep { m{slow} } fetched()), 1, 'which was fetched once');
}


=== ranges, conditions and encodings are nginx's, of whole answers
--- request
GET /
--- after_request eval
sub {
    my $part = get('/c/file', headers => 'Range: bytes=2-5');
    is("$part->{status} $part->{body} $part->{headers}{'x-cache-status'}", '206 2345 MISS', 'a part of what is fetched whole');
    is(get('/c/file')->{status}, 200, 'a part is not kept as the whole');
    my $whole = get('/c/file');
    is("$whole->{headers}{'x-cache-status'} " . length $whole->{body}, 'HIT 17', 'which is there');
    $part = get('/c/file', headers => 'Range: bytes=-3');
    is("$part->{status} $part->{headers}{'x-cache-status'}", '206 HIT', 'a part from the cache');
    my $same = get('/c/file', headers => "If-None-Match: $whole->{headers}{etag}");
    is("$same->{status} $same->{headers}{'x-cache-status'}", '304 HIT', 'nothing new');
    my $head = get('/c/head/file', method => 'HEAD');
    is("$head->{status} $head->{headers}{'x-cache-status'}", '200 MISS', 'HEAD fetches');
    is(length(get('/c/head/file')->{body}), 17, 'the whole');

    my $packed = get('/c/packed', headers => 'Accept-Encoding: gzip');
    is($packed->{headers}{'content-encoding'} // '', 'gzip', 'packed');
    my $plain = get('/c/packed');
    is(($plain->{headers}{'content-encoding'} // '') . ' ' . $plain->{headers}{'x-cache-status'}, ' MISS', 'who cannot unpack is not given it');
    is(status('/c/packed', headers => 'Accept-Encoding: gzip'), 'HIT', 'both are kept');
    is(status('/c/packed'), 'HIT', 'side by side');

    get('/brief/file');
    sleep 2.2;
    is(status('/brief/file'), 'REVALIDATED', 'the same file is not fetched again');
    is(status('/brief/file'), 'HIT', 'and good for another while');
}


=== what is kept survives an edit and a reload; another tag, or a route that was away, begins anew
--- request
GET /tagged/a
--- after_request eval
sub {
    is(statuses('/tagged/a', '/c/a', '/c/a'), 'HIT MISS HIT', 'kept');
    ok(reload(), 'a reload');
    is(statuses('/tagged/a', '/c/a'), 'HIT HIT', 'changes nothing');
    edit('{name: tagged, paths: ["/tagged/*"]', '{name: tagged, priority: 1, paths: ["/tagged/*"]');
    is(statuses('/tagged/a', '/c/a'), 'HIT HIT', 'nor does an edit');
    edit('tags: [shop]', 'tags: [shop-2]', sub { status('/tagged/a') ne 'HIT' });
    is(statuses('/tagged/a', '/tagged/b', '/c/a'), 'HIT MISS HIT', 'another tag: all of it is new');
    edit('tags: [shop-2]', 'tags: [shop]', sub { status('/tagged/b') ne 'HIT' });
    is(status('/tagged/a'), 'MISS', 'the old one again is no way back');
    edit('paths: ["/c/*"]', 'enabled: false, paths: ["/c/*"]', sub { status('/c/a') eq '-' });
    edit('enabled: false, paths: ["/c/*"]', 'paths: ["/c/*"]', sub { status('/c/x') ne '-' });
    is(status('/c/a'), 'MISS', 'nor is a route that comes back');
}


=== a breaker that is open closes the way to the upstream, not to what is kept
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}], retries: {attempts: 1}, breaker: {failures: 2, window: 1m, open_for: 1m}}]
routes:
  - {name: c, paths: ["/c/*"], upstream: u, cache: {zone: api, ttl: 1m}}
  - {name: s, paths: ["/s/*"], upstream: u, cache: {zone: api, ttl: 1s, stale_if_error: 1m}}
--- config
    add_header X-Reason $gateway_reason always;
    location / { gateway_pass gateway; proxy_cache $gateway_cache; proxy_cache_key $gateway_cache_key; }
--- request
GET /c/a
--- error_log
no live upstreams
--- after_request eval
sub {
    down(0);
    is(statuses('/c/a', '/s/a'), 'HIT MISS', 'kept');
    down(1);
    is(get('/c/fail')->{status}, 500, 'fails') for 1 .. 2;
    my $refused = get('/c/fail');
    is($refused->{status}, 503, 'refused');
    like($refused->{body}, qr/"code":"breaker.open"/, 'says so');
    like($refused->{headers}{'retry-after'}, qr/^\d+$/, 'and until when');
    is($refused->{headers}{'content-type'}, 'application/problem+json', 'as any other refusal');
    is($refused->{headers}{'content-length'}, length $refused->{body}, 'whole');
    is($refused->{headers}{'x-reason'}, 'breaker.open', 'and in the log');
    is(get('/c/fail', method => 'HEAD')->{status}, 503, 'also where the header alone is asked for');
    is(status('/c/a'), 'HIT', 'what is kept is given');
    sleep 2.2;
    my $stale = get('/s/a');
    is("$stale->{status} $stale->{headers}{'x-cache-status'}", '200 STALE', 'also what is old, where that may be');
    is(get('/c/fail', method => 'POST')->{status}, 503, 'what is not for the cache is refused in advance');
    down(0);
}


=== a zone that nginx does not have is found when the document is read
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes: [{name: c, paths: ["/c/*"], upstream: u, cache: {zone: other}}]
--- must_die
--- error_log
route "c": cache.zone: there is no "proxy_cache_path" with "keys_zone=other:..."


=== a zone of something else is none
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes: [{name: c, paths: ["/c/*"], upstream: u, cache: {zone: main}}]
--- must_die
--- error_log
route "c": cache.zone: there is no "proxy_cache_path" with "keys_zone=main:..."


=== an edit that names another zone is taken, its requests go without the cache, and the log says so
--- request
GET /c/a
--- error_log
cache zone "other" of route "c" is not one of nginx's: no cache for its requests
--- after_request eval
sub {
    is(status('/c/a'), 'HIT', 'kept');
    edit('paths: ["/c/*"], upstream: u, cache: {zone: api,', 'paths: ["/c/*"], upstream: u, cache: {zone: other,', sub { status('/c/a') eq '-' });
    my $answer = get('/c/a');
    is("$answer->{status} " . ($answer->{headers}{'x-cache-status'} // '-'), '200 -', 'answered all the same');
}


=== levels that are to come are refused by name
--- gateway
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]
routes: [{name: c, paths: ["/c/*"], upstream: u, cache: {zone: api, levels: [nginx, redis]}}]
--- must_die
--- error_log
routes[0].cache.levels[1]: `redis` is not supported yet
