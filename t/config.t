# The document and the directives: what is wrong is told with its line and stops nothing that runs; what is right is
# live within a second in every worker.

use lib 't';
use Gateway 'no_plan';

use Cwd qw(abs_path);
use File::Temp qw(tempdir);

our $Binary = $ENV{TEST_NGINX_BINARY};
our $Upstream = 'upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]';
our $Good = "version: 1\n$Upstream\nroutes: [{name: all, paths: [\"/*\"], upstream: u}]\n";

# So many routes, which need so much room.
our $Large = "version: 1\nroutes:\n" . join '', map { "  - {name: route-$_, paths: [\"/api/v1/$_/*\"]}\n" } 1 .. 8000;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => $Good) if !defined $block->gateway;
});

# A module that was made for another nginx: nginx compares a version and a list of features.
{
    my $dir = tempdir(CLEANUP => 1);
    my $module = Test::Nginx::Util::read_log(abs_path($ENV{GATEWAY_MODULE} // 'target/ngx_http_gateway_module.so'), 0);
    $module =~ s/\d,\d,\d,\K([01]{30,})/$1 =~ tr{01}{10}r/eg or die "no signature\n";
    Test::Nginx::Util::write_file("$dir/other.so", $module);
    Test::Nginx::Util::write_file("$dir/nginx.conf", "load_module $dir/other.so;\nevents {}\npid $dir/pid;\n");
    my $said = `$Binary -t -e $dir/error.log -p $dir/ -c $dir/nginx.conf 2>&1`;
    like($said, qr{\[emerg\].*other\.so" is not binary compatible in \S+/nginx\.conf:1}, 'a module built for another nginx');
}

run_tests();

__DATA__

=== an edit by rename, in place, and by a link is live within a second on both workers
--- request
GET /a
--- after_request eval
sub {
    my $root = Test::Nginx::Socket::server_root();
    my $file = "$root/conf/gateway.yaml";
    my $text = Test::Nginx::Util::read_log($file, 0);
    my $names = sub { my ($name) = @_; sub { (get('/')->{headers}{'x-route'} // '') eq $name } };

    ok(edit('name: all', 'name: renamed', $names->('renamed')), 'by rename');
    is($_->{headers}{'x-route'}, 'renamed', 'each worker') for each_worker('/');

    Test::Nginx::Util::write_file($file, $text =~ s/name: all/name: inplace/r);
    ok(until_true(1, $names->('inplace')), 'in place');

    # As Kubernetes mounts a ConfigMap: a link to a link to a folder, of which the latter is exchanged.
    mkdir "$root/conf/$_" for 1, 2;
    Test::Nginx::Util::write_file("$root/conf/$_->[0]/gateway.yaml", $text =~ s/name: all/name: $_->[1]/r) for [1, 'first'], [2, 'second'];
    symlink '1', "$root/conf/..data";
    symlink '..data/gateway.yaml', "$root/conf/link";
    rename "$root/conf/link", $file;
    ok(until_true(1, $names->('first')), 'a link in its place');
    symlink '2', "$root/conf/..data.new";
    rename "$root/conf/..data.new", "$root/conf/..data";
    ok(until_true(1, $names->('second')), 'a folder exchanged behind a link');
    is($_->{headers}{'x-route'}, 'second', 'each worker') for each_worker('/');
}
--- response_headers
X-Route: all


=== a broken edit: all mistakes at once, each with line and path, once; nothing changes until it is mended
--- request
GET /a
--- after_request eval
sub {
    my $generation = sub { (get('/metrics')->{body} =~ /^gateway_config_generation (\d+)$/m)[0] };
    my $before = $generation->();
    ok(edit('paths: ["/*"]', 'paths: ["*"], prority: 1, methods: [GRAB]'), 'an edit');
    sleep 0.6;
    is($_->{headers}{'x-route'}, 'all', 'each worker goes on') for each_worker('/');
    is($generation->(), $before, 'nothing is half applied');
    my $log = errors();
    for (qr/routes\[0\]\.paths\[0\]: .*`\/\*`/, qr/routes\[0\]: unknown field `prority`, did you mean `priority`\?/,
        qr/routes\[0\]\.methods\[0\]: must be one of/)
    {
        is(scalar(() = $log =~ /\[error\] [^\n]*gateway\.yaml:3: $_/g), 1, "told once: $_");
    }
    like(get('/metrics')->{body}, qr/^gateway_config_errors_total [1-9]/m, 'and counted');

    document("version: 1\nroutes: [\n");
    like(errors(), qr/\[error\].*gateway\.yaml:\d+/, 'no YAML at all');
    document('');
    is(get('/')->{status}, 200, 'an empty file changes nothing');
    unlink Test::Nginx::Socket::server_root() . '/conf/gateway.yaml';
    sleep 0.6;
    is($_->{status}, 200, 'nor does a missing one') for each_worker('/');
    like(errors(), qr/\[error\].*gateway\.yaml: cannot be looked at: /, 'which is told');
    ok(document($main::Good =~ s/name: all/name: mended/r, sub { (get('/')->{headers}{'x-route'} // '') eq 'mended' }), 'mended');
}
--- response_headers
X-Route: all
--- no_error_log
[alert]
[emerg]


=== JSON is a document too
--- gateway
{"version": 1, "upstreams": [{"name": "u", "nodes": [{"host": "127.0.0.1", "port": $TEST_NGINX_RAND_PORT_1}]}],
 "routes": [{"name": "json", "paths": ["/*"], "upstream": "u"}]}
--- request
GET /
--- response_headers
X-Route: json


=== an edit that does not fit: the error says what size would do, and the old one stays
--- http_config
gateway_zone main 1m;
--- request
GET /a
--- after_request eval
sub {
    document($main::Large);
    ok(until_true(10, sub { errors() =~ /does not fit/ }), 'it is told');
    like(errors(), qr/\[error\].*gateway\.yaml: the document does not fit into the zone: .*; the zone has \d+k?m?, one of \d+m would do/, 'with a size');
    is($_->{headers}{'x-route'}, 'all', 'each worker goes on') for each_worker('/');
    ok(edit(qr/.*/s, $main::Good =~ s/name: all/name: after/r, sub { (get('/')->{headers}{'x-route'} // '') eq 'after' }), 'and the next edit is live');
}
--- response_headers
X-Route: all
--- no_error_log
[alert]
[emerg]


=== a document that does not fit at the start
--- gateway eval: $::Large
--- http_config
gateway_zone main 1m;
--- must_die
--- error_log eval
qr/gateway\.yaml: the document does not fit into the zone: .*one of \d+m would do; a larger "gateway_zone" is needed/


=== ... and the size that would do does
--- gateway eval: $::Large
--- http_config eval
my $servroot = Test::Nginx::Socket::server_root();
mkdir "$servroot-size" and 1;
Test::Nginx::Util::write_file("$servroot-size/gateway.yaml", $::Large);
my $module = Cwd::abs_path($ENV{GATEWAY_MODULE} // 'target/ngx_http_gateway_module.so');
Test::Nginx::Util::write_file("$servroot-size/nginx.conf", "load_module $module;\nevents {}\npid $servroot-size/pid;\n"
    . "http { access_log off; gateway_zone main 1m; gateway_config $servroot-size/gateway.yaml; }\n");
# `-t` maps no zone; a start does, and fails before it forks.
my $said = `$::Binary -e $servroot-size/error.log -p $servroot-size/ -c $servroot-size/nginx.conf 2>&1`;
my ($size) = $said =~ /one of (\d+m) would do/ or die "it started, or said: $said\n";
File::Path::remove_tree("$servroot-size");
"gateway_zone main $size;\n"
--- config
location / { gateway on; return 200 "in\n"; }
--- request
GET /api/v1/7999/x
--- response_body_like
in|route


=== nginx -t checks the document and changes nothing, good or bad
--- request
GET /a
--- after_request eval
sub {
    my $root = Test::Nginx::Socket::server_root();
    my $look = sub { scalar `find $root -type f ! -name '*.log' -printf '%p %s %T@ %i\n' | sort` };
    my $test = sub { scalar `$main::Binary -t -e $root/logs/test.log -p $root/ -c $root/conf/nginx.conf 2>&1` };
    my $generation = sub { (get('/metrics')->{body} =~ /^gateway_config_generation (\d+)$/m)[0] };
    my ($files, $workers, $before) = ($look->(), CORE::join(' ', worker_pids()), $generation->());

    like($test->(), qr/test is successful/, 'good');
    is($look->(), $files, 'no file is written');
    edit('upstream: u', 'upstream: w', sub { 1 });
    $files = $look->();
    like($test->(), qr/\[emerg\].*gateway\.yaml:3: routes\[0\]\.upstream: .*`w`/, 'bad');
    is($look->(), $files, 'no file is written');
    is(CORE::join(' ', worker_pids()), $workers, 'nothing was started');
    is($generation->(), $before, 'nothing was published');
    is($_->{status}, 200, 'each worker goes on') for each_worker('/');
}
--- no_error_log
[alert]
[emerg]


=== a path beside nginx.conf
--- http_config
gateway_config gateway.yaml;
--- request
GET /
--- response_headers
X-Route: all


=== misconfigured: no document
--- http_config
gateway_config nowhere.yaml;
--- must_die
--- error_log eval
qr{conf/nowhere\.yaml: .*No such file}


=== misconfigured: a zone too small
--- http_config
gateway_zone main 256k;
--- must_die
--- error_log eval
qr/zone "main" of 262144 bytes is too small: "gateway_zone" needs at least 1048576 bytes in \S+nginx\.conf:\d+/


=== misconfigured: a size that is none
--- http_config
gateway_zone main large;
--- must_die
--- error_log eval
qr/"large".* in \S+nginx\.conf:\d+/


=== misconfigured: a location without a zone
--- http_config
# no gateway_zone
--- config
location / { gateway on; return 200; }
--- must_die
--- error_log
"gateway" needs "gateway_zone" in the "http" block


=== misconfigured: gateway_pass without gateway_zone
--- http_config
# no gateway_zone
--- must_die
--- error_log eval
qr/"gateway_pass" needs "gateway_zone" in the "http" block in \S+nginx\.conf:\d+/


=== misconfigured: gateway_zone without gateway_config
--- http_config
# no gateway_config
--- config
location / { return 200; }
--- must_die
--- error_log
"gateway_zone" needs "gateway_config" in the "http" block


=== misconfigured: gateway_metrics without gateway_config
--- http_config
# no gateway_config
--- config
location / { gateway_metrics; }
--- must_die
--- error_log
"gateway_metrics" needs "gateway_config" in the "http" block


=== misconfigured: gateway_pass without gateway_config
--- http_config
gateway_zone main 16m;
# no gateway_config
--- must_die
--- error_log eval
qr/"gateway_pass" needs "gateway_config" in the "http" block in \S+nginx\.conf:\d+/


=== misconfigured: twice gateway_zone
--- http_config
gateway_zone main 16m;
gateway_zone other 16m;
--- must_die
--- error_log eval
qr/"gateway_zone" directive is duplicate: there is one region for all workers in \S+nginx\.conf:\d+/


=== misconfigured: twice gateway_config
--- http_config
gateway_config a.yaml;
gateway_config b.yaml;
--- must_die
--- error_log eval
qr/"gateway_config" directive is duplicate in \S+nginx\.conf:\d+/


=== misconfigured: twice gateway
--- config
location / { gateway on; gateway off; }
--- must_die
--- error_log eval
qr/"gateway" directive is duplicate in \S+nginx\.conf:\d+/


=== misconfigured: a word that gateway does not know
--- config
location / { gateway yes; }
--- must_die
--- error_log eval
qr/invalid value "yes" in "gateway" directive.*"on".*"off".* in \S+nginx\.conf:\d+/


=== misconfigured: twice gateway_pass
--- config
location / { gateway_pass gateway; gateway_pass gateway; }
--- must_die
--- error_log eval
qr/"gateway_pass" is duplicate, or .* in \S+nginx\.conf:\d+/


=== misconfigured: gateway_pass beside proxy_pass
--- config
location / { proxy_pass http://gateway; gateway_pass gateway; }
--- must_die
--- error_log eval
qr/"gateway_pass" is duplicate, or stands beside what answers this location already in \S+nginx\.conf:\d+/


=== misconfigured: proxy_pass behind gateway_pass
--- config
location / { gateway_pass gateway; proxy_pass http://gateway; }
--- must_die
--- error_log eval
qr/"proxy_pass" directive is duplicate in \S+nginx\.conf:\d+/


=== misconfigured: gateway_metrics beside gateway_pass
--- config
location / { gateway_pass gateway; gateway_metrics; }
--- must_die
--- error_log eval
qr/"gateway_metrics" stands beside what answers this location already in \S+nginx\.conf:\d+/


=== misconfigured: what gateway_pass sets itself
--- config
location / { proxy_http_version 1.0; gateway_pass gateway; }
--- must_die
--- error_log eval
qr/"gateway_pass" sets "proxy_pass", "proxy_http_version" and "proxy_next_upstream" itself.* in \S+nginx\.conf:\d+/


=== misconfigured: gateway_pass with a URL
--- config
location / { gateway_pass http://gateway/x; }
--- must_die
--- error_log eval
qr{invalid upstream "http://gateway/x" in "gateway_pass": name an upstream block in \S+nginx\.conf:\d+}


=== misconfigured: gateway_pass with the name of no block
--- config
location / { gateway_pass nobody; }
--- must_die
--- error_log eval
qr/"nobody".* in \S+nginx\.conf:\d+/


=== misconfigured: gateway_balancer after keepalive
--- http_config
upstream gateway { keepalive 8; gateway_balancer; }
--- must_die
--- error_log eval
qr/"gateway_balancer" must stand before "keepalive".* in \S+nginx\.conf:\d+/


=== misconfigured: gateway_balancer beside another one
--- http_config
upstream gateway { least_conn; gateway_balancer; }
--- must_die
--- error_log eval
qr/"gateway_balancer" must.*be the only balancer.* in \S+nginx\.conf:\d+/


=== misconfigured: twice gateway_balancer
--- http_config
upstream gateway { gateway_balancer; gateway_balancer; }
--- must_die
--- error_log eval
qr/"gateway_balancer" .* in \S+nginx\.conf:\d+/


=== misconfigured: a zone in the same upstream
--- http_config
upstream gateway { zone peers 64k; gateway_balancer; }
--- must_die
--- error_log eval
qr/"zone" cannot be used in upstream "gateway" with "gateway_balancer".* in \S+nginx\.conf:\d+/


=== misconfigured: a server before gateway_balancer
--- http_config
upstream gateway { server 127.0.0.1:1; gateway_balancer; }
--- must_die
--- error_log eval
qr/"server" has no meaning.*in the document in \S+nginx\.conf:\d+/


=== misconfigured: a server after gateway_balancer
--- http_config
upstream gateway { gateway_balancer; server 127.0.0.1:1; }
--- must_die
--- error_log eval
qr/"server" has no meaning.*in the document in \S+nginx\.conf:\d+/


=== misconfigured: a directive where it has no place
--- config
gateway_zone main 16m;
--- must_die
--- error_log eval
qr/"gateway_zone" directive is not allowed here in \S+nginx\.conf:\d+/


=== misconfigured: secrets that are not there
--- gateway
version: 1
auth:
  - {name: a, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://T_NOT_SET"}]}}
  - {name: b, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$file:///nowhere/secret"}]}}
  - {name: c, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$file:///"}]}}
  - {name: d, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$file://relative"}]}}
routes: [{name: all, paths: ["/*"]}]
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: auth\[0\]\.jwt\.keys\[0\]\.secret: the environment variable `T_NOT_SET` is not set/,
 qr{gateway\.yaml:4: auth\[1\]\.jwt\.keys\[0\]\.secret: cannot read `/nowhere/secret`: .*No such file},
 qr{gateway\.yaml:5: auth\[2\]\.jwt\.keys\[0\]\.secret: cannot read `/`: }, qr{gateway\.yaml:6: .*absolute path}]


=== misconfigured: two of one name, a field twice, no version, a version of tomorrow
--- gateway
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}]}
  - {name: u, nodes: [{host: 127.0.0.1, port: 2}]}
routes: [{name: all, paths: ["/*"], upstream: u}]
version: 2
--- must_die
--- error_log eval
[qr/gateway\.yaml:3: upstreams\[1\].*`u`/, qr/gateway\.yaml:5: version: must be/]
