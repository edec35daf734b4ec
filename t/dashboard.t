# gateway_dashboard: the page, and the headers that keep it to itself. t/story/dashboard.t opens it in a browser.

use lib 't';
use Gateway 'no_plan';

our $Config = <<'CONF';
        location / { gateway_pass gateway; }
        location = /dashboard { gateway_dashboard; }
        location /other/ { gateway_dashboard api=/other/admin/v1/; }
        location = /guarded { gateway_dashboard; deny all; }
CONF

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => $Config) if !defined $block->config;
    $block->set_value(gateway => <<'YAML') if !defined $block->gateway;
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML
});

# Sections marked `eval` are evaluated in this package.
package Test::Base::Filter {
    use Digest::SHA 'sha256_base64';

    # The hash by which a policy knows the one element of this name.
    sub hash_of {
        my ($page, $tag) = @_;
        my @all = $page =~ m{<$tag>(.*?)</$tag>}gs;
        return @all == 1 ? "'sha256-" . sha256_base64($all[0]) . "='" : 'not one';
    }
}

run_tests();

__DATA__

=== the page and what it may do
--- request
GET /dashboard
--- no_error_log
[alert]
--- after_request eval
sub {
    my $answer = Gateway::get('/dashboard');
    my %headers = %{$answer->{headers}};
    is("$answer->{status} $headers{'content-type'}", '200 text/html; charset=utf-8', 'a page');
    my $policy = $headers{'content-security-policy'};
    my %policy = map { /^(\S+) (.*)$/ ? ($1 => $2) : () } split /; */, $policy;
    is($policy{'script-src'}, hash_of($answer->{body}, 'script'), 'the script of the page and no other');
    is($policy{'style-src'}, hash_of($answer->{body}, 'style'), 'its style');
    is($policy{'default-src'}, "'none'", 'nothing else');
    is($policy{'connect-src'}, "'self'", 'this host alone is asked');
    is($policy{$_}, "'none'", $_) for qw(frame-ancestors base-uri form-action trusted-types);
    unlike($policy, qr/unsafe|\*|http/, 'no way around');
    is($headers{$_->[0]}, $_->[1], $_->[0]) for ['x-content-type-options', 'nosniff'], ['x-frame-options', 'DENY'],
        ['cache-control', 'no-store'], ['referrer-policy', 'no-referrer'], ['cross-origin-opener-policy', 'same-origin'],
        ['cross-origin-resource-policy', 'same-origin'];
    like($answer->{body}, qr{<meta name="api" content="/v1/">}, 'the API is at /v1/');
    unlike($answer->{body}, qr/\@api\@|https?:|innerHTML| on\w+="| style="/, 'no markup from text, nothing from elsewhere');
    cmp_ok(length $answer->{body}, '<', 60_000, 'small');

    my $other = Gateway::get('/other/');
    like($other->{body}, qr{<meta name="api" content="/other/admin/v1/">}, 'an API elsewhere');
    is($other->{headers}{'content-security-policy'}, $policy, 'under the same policy');
    is(Gateway::get('/guarded')->{status}, 403, 'what guards a location guards this one');

    my $head = Gateway::get('/dashboard', method => 'HEAD');
    is("$head->{status} $head->{headers}{'content-length'} [$head->{body}]", '200 ' . length($answer->{body}) . ' []', 'HEAD');
    is($head->{headers}{'content-security-policy'}, $policy, 'with the same headers');
    for my $method (qw(POST PUT DELETE OPTIONS)) {
        my $refused = Gateway::get('/dashboard', method => $method, body => $method eq 'OPTIONS' ? '' : 'x=1');
        is("$refused->{status} $refused->{headers}{allow}", '405 GET, HEAD', $method);
    }
}


=== a second one in a location
--- config
        location / { gateway_dashboard; gateway_dashboard; }
--- must_die
--- error_log
"gateway_dashboard" directive is duplicate


=== beside what answers already
--- config
        location / { gateway_metrics; gateway_dashboard; }
--- must_die
--- error_log
"gateway_dashboard" stands beside what answers this location already


=== an API on another host
--- config
        location / { gateway_dashboard api=//evil.example/v1/; }
--- must_die
--- error_log
invalid "api=//evil.example/v1/" of "gateway_dashboard": it must be the path of the API, such as "/v1/" or "/admin/v1/"


=== another parameter
--- config
        location / { gateway_dashboard token=abc; }
--- must_die
--- error_log
invalid parameter "token=abc" of "gateway_dashboard": it must be "api=PATH"
