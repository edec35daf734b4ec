# Canaries: who meets which variant through nginx, overrides, and a promotion that ends in a rollback.

use lib 't';
use Gateway 'no_plan';

# Two versions; the new one fails while html/fail is there.
our $Http = <<'CONF';
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "stable\n"; }
}
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    location / {
        root html;
        if (-f $document_root/fail) { return 500 "broken\n"; }
        return 200 "v2\n";
    }
}
CONF

our $Config = <<'CONF';
add_header X-Worker $pid always;
add_header X-Variant $gateway_variant always;
add_header X-Upstream $gateway_upstream always;
location / { gateway_pass gateway; }
location = /metrics { gateway_metrics; }
CONF

sub Test::Base::Filter::failing {
    my $file = Test::Nginx::Socket::html_dir() . '/fail';
    return unlink $file if !shift;
    open my $out, '>', $file or die "$file: $!\n";
    close $out;
}

# How many of 400 callers each variant serves.
sub Test::Base::Filter::shares {
    my %shares;
    $shares{get('/', headers => "X-Id: caller$_")->{headers}{'x-variant'}}++ for 1 .. 400;
    return \%shares;
}

# Whether the candidate's share comes to be this one, while requests go on.
sub Test::Base::Filter::comes_to {
    my $share = shift;
    my $n = 0;
    return until_true(12, sub {
        get('/', headers => "X-Id: c" . $n++) for 1 .. 40;
        return get('/metrics')->{body} =~ /^gateway_canary_share_ratio\{route="all",variant="v2"\} \Q$share\E$/m;
    });
}

add_block_preprocessor(sub {
    my $block = shift;
    my $canary = $block->canary;
    $block->set_value(gateway => <<"YAML") if !defined $block->gateway;
version: 1
upstreams:
  - {name: one, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_1}]}
  - {name: two, nodes: [{host: 127.0.0.1, port: \$TEST_NGINX_RAND_PORT_2}], retries: {attempts: 1}}
routes: [{name: all, paths: ["/*"], upstream: one, canary: {$canary}}]
YAML
    $block->set_value(http_config => $Http) if !defined $block->http_config;
    $block->set_value(config => $Config) if !defined $block->config;
});

run_tests();

__DATA__

=== shares of callers, the same on each worker, after an edit of something else and a reload; raised, nobody leaves
--- canary: variants: [{name: stable, weight: 80}, {name: v2, weight: 20, upstream: two}], key: "header:X-Id"
--- request
GET /
--- after_request eval
sub {
    my $shares = shares();
    is($shares->{stable} + $shares->{v2}, 400, 'everybody is served');
    cmp_ok(abs($shares->{v2} - 80), '<', 32, 'a fifth by the candidate');
    my ($caller) = grep { get('/', headers => "X-Id: caller$_")->{body} eq "v2\n" } 1 .. 100;
    for (each_worker('/', headers => "X-Id: caller$caller")) {
        is($_->{body}, "v2\n", 'the same on each worker');
        is($_->{headers}{'x-upstream'}, 'two', 'its upstream');
    }
    my @with = grep { get('/', headers => "X-Id: caller$_")->{body} eq "v2\n" } 1 .. 200;
    ok(edit('routes: [', 'routes: [{name: other, paths: [/other]}, '), 'an edit');
    ok(reload(), 'reload');
    is(get('/', headers => "X-Id: caller$_")->{body}, "v2\n", "caller $_ stays") for @with[0 .. 4];
    ok(edit('weight: 20', 'weight: 60', sub { shares()->{v2} > 110 }), 'raised');
    is(scalar(grep { get('/', headers => "X-Id: caller$_")->{body} ne "v2\n" } @with), 0, 'nobody leaves');
    like(get('/metrics')->{body}, qr/^gateway_canary_requests_total\{route="all",variant="v2"\} \d+$/m, 'counted');
}
--- error_code: 200


=== header, cookie, and what says nothing
--- canary: variants: [{name: stable, weight: 1}, {name: blue, weight: 0}, {name: v2, weight: 0, upstream: two}], overrides: {header: "X-Canary: true", cookie: canary=true}
--- request
GET /
--- after_request eval
sub {
    for (
        ['', 'stable'], ['X-Canary: true', 'v2'], ['X-Canary: blue', 'blue'], ['X-Canary: 1', 'stable'],
        ['Cookie: a=b; canary=true', 'v2'], ['Cookie: canary=false', 'stable'], ["X-Canary: stable\nCookie: canary=true", 'stable'],
        ["X-Canary: true\nX-Canary: true", 'stable'],
    ) {
        my ($headers, $expected) = @$_;
        is(get('/', headers => $headers)->{headers}{'x-variant'}, $expected, "[$headers]");
    }
}
--- error_code: 200


=== a promotion rises, fails, and takes the candidate back on every worker; the log tells
--- canary: variants: [{name: stable, weight: 1}, {name: v2, upstream: two}], key: "header:X-Id", promote: {steps: [20%, 50%], every: 1s, minimum_requests: 20, cool_down: 60s}, overrides: {header: X-Canary}
--- request
GET /
--- after_request eval
sub {
    ok(comes_to('0.5'), 'raised');
    failing(1);
    ok(comes_to('0'), 'taken back');
    is(shares()->{v2} // 0, 0, 'it serves nobody');
    ok(reload(), 'reload');
    is($_->{headers}{'x-variant'}, 'stable', 'also after a reload') for each_worker('/');
    is(get('/', headers => 'X-Canary: v2')->{status}, 500, 'but whom an override sends');
    failing(0);
}
--- error_code: 200
--- no_error_log
[alert]
--- error_log eval
[qr/variant "v2" begins with 20 %/, qr/variant "v2" is raised to 50 %/, qr/variant "v2" is rolled back: [\d.]+ % errors against 0\.00 %/]


=== misconfigured
--- canary: variants: [{name: a, weight: 1}], mirror: {upstream: two, percent: half}, stepWeight: 5
--- must_die
--- error_log eval
[qr/routes\[0\]\.canary\.variants: needs at least two variants/, qr/routes\[0\]\.canary\.mirror\.percent: must be a percentage/,
 qr/routes\[0\]\.canary: unknown field `stepWeight`; our word is `promote`/]
