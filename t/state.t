# gateway_state: what is kept there, and a start without a good document.

use lib 't';
use Gateway 'no_plan';

use Cwd qw(abs_path);
use File::Temp qw(tempdir);

our $Binary = $ENV{TEST_NGINX_BINARY};
our $Secret;
our $Good = <<'YAML';
version: 1
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u}]
YAML

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(gateway => $Good) if !defined $block->gateway;
    $block->set_value(http_config => "gateway_state logs/state;\n") if !defined $block->http_config;
});

# Sections marked `eval` are evaluated in this package.
package Test::Base::Filter {

    sub root { Test::Nginx::Socket::server_root() }

    sub slurp { Test::Nginx::Util::read_log(root() . "/$_[0]", 0) }

    # {name => content} of the state folder.
    sub kept {
        my $root = root();
        return {map { m{([^/]+)\z} => slurp("logs/state/$1") } grep { -f } glob "$root/logs/state/* $root/logs/state/.[!.]*"};
    }
}

# The master is root and the workers are not: what they could not read at the next edit is told at the start.
SKIP: {
    skip 'the master is not root', 8 if $> != 0;
    my $dir = tempdir(CLEANUP => 1);
    my $module = abs_path($ENV{GATEWAY_MODULE} // 'target/ngx_http_gateway_module.so');
    my $secret = CORE::join '', map { chr(97 + int rand 26) } 1 .. 48;
    my $write = \&Test::Nginx::Util::write_file;
    mkdir "$dir/$_" for 'conf', 'secret';
    $write->("$dir/secret/key", $secret);
    $write->("$dir/secret/net", "10.0.0.0/8\n");
    $write->("$dir/conf/gateway.yaml", <<"YAML");
version: 1
auth: [{name: a, jwt: {issuer: i, audience: b, keys: [{kid: k, alg: HS256, secret: "\$file://$dir/secret/key"}]}}]
lists: [{name: net, file: $dir/secret/net}]
routes: [{name: all, paths: ["/*"], auth: [a], allow: [net]}]
YAML
    $write->("$dir/conf/nginx.conf", "load_module $module;\nevents {}\npid $dir/pid;\nuser nobody nogroup;\n"
        . "http { access_log off; gateway_zone main 1m; gateway_config gateway.yaml; }\n");
    my $test = sub { scalar `$Binary -t -e $dir/error.log -p $dir/ -c $dir/conf/nginx.conf 2>&1` };
    my $told = sub { qr{\[emerg\].*\Q$dir\E/$_[0]: cannot be read by "nobody", who the workers are: Permission denied} };

    chmod 0755, $dir, "$dir/conf", "$dir/secret";
    like($test->(), qr/test is successful/, 'everybody may read it') or diag($test->());
    for (['conf/gateway.yaml', 0600, 0644], ['secret/key', 0600, 0640], ['secret/net', 0600, 0644]) {
        my ($file, $closed, $open) = @$_;
        chmod $closed, "$dir/$file";
        like($test->(), $told->($file), "$file is the master's alone");
        chmod $open, "$dir/$file";
    }
    like($test->(), $told->('secret/key'), 'nor another group');
    chown -1, scalar getgrnam('nogroup'), "$dir/secret/key";
    like($test->(), qr/test is successful/, 'the group of the workers may read it');
    chmod 0700, "$dir/secret";
    like($test->(), $told->('secret/key'), 'in a folder that is closed');
    like($test->(), $told->('secret/net'), 'all are told');
}

run_tests();

__DATA__

=== the folder is the workers' own, and holds the document that is live, as it was written
--- request
GET /a
--- after_request eval
sub {
    my $root = root();
    ok(until_true(3, sub { kept()->{'document.yaml'} }), 'kept');
    my ($uid) = (stat('/proc/' . (worker_pids())[0]))[4];
    for (['', 0700], ['/document.yaml', 0600]) {
        my ($name, $mode) = @$_;
        my @stat = stat "$root/logs/state$name";
        is($stat[4], $uid, "the workers' own: $name");
        is($stat[2] & 0777, $mode, "nobody else's: $name");
    }
    is_deeply(kept(), {'document.yaml' => slurp('conf/gateway.yaml')}, 'as it was written');

    ok(edit('routes: [{name: all', "# here\nroutes: [{name: edited", sub { (get('/')->{headers}{'x-route'} // '') eq 'edited' }), 'an edit');
    ok(until_true(1, sub { kept()->{'document.yaml'} =~ /# here\n.*edited/ }), 'is kept');
    my $good = kept();
    edit('name: edited', 'nam: broken');
    is_deeply(kept(), $good, 'a bad one is not');
    kill HUP => master();
    sleep 0.5;
    is_deeply(kept(), $good, 'whatever comes');
    ok(edit('nam: broken', 'name: mended', sub { (get('/')->{headers}{'x-route'} // '') eq 'mended' }), 'mended');
    ok(until_true(1, sub { kept()->{'document.yaml'} =~ /name: mended/ }), 'kept');
    my ($inode) = (stat "$root/logs/state/document.yaml")[1];
    ok(reload(), 'reload');
    sleep 1;
    is((stat "$root/logs/state/document.yaml")[1], $inode, 'what is kept already is not written again');
}
--- error_code: 200
--- no_error_log
[alert]


=== a folder that is there is used, and what a killed writer left in it goes
--- http_config eval
my $state = Test::Nginx::Socket::server_root() . '-state';
File::Path::make_path($state);
Test::Nginx::Util::write_file("$state/.document.yaml~4194305", 'half');
"gateway_state $state/;\n"
--- request
GET /a
--- after_request eval
sub {
    my $state = root() . '-state';
    ok(until_true(3, sub { -f "$state/document.yaml" && !-e "$state/.document.yaml~4194305" }), 'tidy');
    File::Path::remove_tree($state);
}


=== nginx -t makes nothing
--- request
GET /a
--- after_request eval
sub {
    my $root = root();
    my $conf = slurp('conf/nginx.conf') =~ s{gateway_state logs/state}{gateway_state logs/other}r;
    Test::Nginx::Util::write_file("$root/conf/other.conf", $conf);
    my $said = `$main::Binary -t -e $root/logs/test.log -p $root/ -c $root/conf/other.conf 2>&1`;
    like($said, qr/test is successful/, 'good');
    ok(!-e "$root/logs/other", 'no folder');
}


=== misconfigured: a folder in a folder that is not there
--- http_config
gateway_state /nowhere/at/all;
--- must_die
--- error_log eval
qr{"gateway_state": there is no folder /nowhere/at to make it in in \S+nginx\.conf:\d+}


=== misconfigured: a file
--- http_config
gateway_state conf/nginx.conf;
--- must_die
--- error_log eval
qr{"gateway_state": \S+/conf/nginx\.conf is no folder in \S+nginx\.conf:\d+}


=== misconfigured: twice
--- http_config
gateway_state logs/state;
gateway_state logs/other;
--- must_die
--- error_log eval
qr{"gateway_state" directive is duplicate in \S+nginx\.conf:\d+}


=== misconfigured: the folder of something else
--- http_config
gateway_state logs/state;
proxy_temp_path logs/state;
--- must_die
--- error_log eval
qr{the same path name "\S+/logs/state" used in \S+nginx\.conf:\d+}


=== a start with a bad document and a good one that was live: that one, until there is a good one
--- gateway eval: "# \$TEST_NGINX_RAND_PORT_1\nroutes: [{name: r, path: ['/*']}]\nversion: 1\n"
--- user_files eval: [[Test::Nginx::Socket::server_root() . '/logs/state/document.yaml', $::Good]]
--- request
GET /a
--- after_request eval
sub {
    my $degraded = sub { (get('/metrics')->{body} =~ /^gateway_config_degraded (\d)$/m)[0] };
    is($_->{headers}{'x-route'}, 'all', 'each worker') for each_worker('/');
    is($degraded->(), 1, 'degraded');
    my $root = root();
    is(scalar(() = errors() =~ m{\[crit\].*/conf/gateway.yaml is bad; starting with what was live last, \S+/logs/state/document.yaml}g), 1, 'told');
    ok(until_true(2, sub { errors() =~ /\[error\].*conf\/gateway.yaml:2: routes\[0\]: unknown field `path`, did you mean `paths`/ }), 'and why');
    is($degraded->(), 1, 'still');
    is(kept()->{'document.yaml'} =~ /paths/, 1, 'it is kept');
    kill HUP => master();
    ok(until_true(3, sub { errors() =~ /\[emerg\].*conf\/gateway.yaml:2/ }), 'a reload wants a good one');
    my $said = `$main::Binary -t -e $root/logs/test.log -p $root/ -c $root/conf/nginx.conf 2>&1`;
    like($said, qr/\[emerg\].*conf\/gateway.yaml:2: .*did you mean `paths`/, 'and so does a test');
    ok(document($main::Good =~ s/name: all/name: mended/r, sub { (get('/')->{headers}{'x-route'} // '') eq 'mended' }), 'mended');
    is($degraded->(), 0, 'and no longer degraded');
    edit('upstream: u', 'upstrem: u');
    is($degraded->(), 1, 'an edit that is refused degrades, too');
    edit('upstrem: u', 'upstream: u');
    is($degraded->(), 0, 'until it is taken back');
}
--- response_headers
X-Route: all
--- error_log
[crit]
--- no_error_log
[alert]


=== ... with no document at all
--- http_config
gateway_state logs/state;
gateway_config conf/not-there.yaml;
--- user_files eval: [[Test::Nginx::Socket::server_root() . '/logs/state/document.yaml', $::Good]]
--- request
GET /a
--- response_headers
X-Route: all
--- error_log
not-there.yaml is bad; starting with what was live last


=== ... with one that does not fit into the zone
--- http_config
gateway_state logs/state;
gateway_zone main 1m;
--- gateway eval: "version: 1 # \$TEST_NGINX_RAND_PORT_1\nroutes:\n" . CORE::join '', map { "  - {name: route-$_, paths: [\"/api/v1/$_/*\"]}\n" } 1 .. 8000
--- user_files eval: [[Test::Nginx::Socket::server_root() . '/logs/state/document.yaml', $::Good]]
--- request
GET /a
--- response_headers
X-Route: all
--- error_log
does not fit into the zone
starting with what was live last


=== ... where what was live last is bad, too
--- gateway eval: "version: 1\nroutes: 7\n"
--- user_files eval: [[Test::Nginx::Socket::server_root() . '/logs/state/document.yaml', "version: 1\nroutes: 8\n"]]
--- must_die
--- error_log eval
qr{conf/gateway.yaml is bad; \S+/logs/state/document.yaml:2: routes: }


=== ... where it is without what nginx.conf names
--- http_config
gateway_state logs/state;
--- config
location / { gateway_route other; }
--- gateway eval: "version: 1\nroutes: 7\n"
--- user_files eval: [[Test::Nginx::Socket::server_root() . '/logs/state/document.yaml', $::Good]]
--- must_die
--- error_log eval
qr{document.yaml: "gateway_route": there is no route "other" in \S+ in \S+nginx.conf:\d+}


=== ... where it is a link
--- http_config eval
my $root = Test::Nginx::Socket::server_root();
File::Path::make_path("$root-link");
symlink '/etc/hostname', "$root-link/document.yaml";
"gateway_state $root-link;\n"
--- gateway eval: "version: 1\nroutes: 7\n"
--- must_die
--- error_log eval
File::Path::remove_tree(Test::Nginx::Socket::server_root() . '-link');
qr{conf/gateway.yaml:2: routes: }


=== ... where nothing was ever live
--- gateway eval: "version: 1\nroutes: 7\n"
--- must_die
--- error_log eval
qr{conf/gateway.yaml:2: routes: }


=== misconfigured: what gateway_zone does not know
--- http_config
gateway_zone main 1m fle=zone;
--- must_die
--- error_log eval
qr{invalid parameter "fle=zone" of "gateway_zone", it must be "file=PATH" in \S+nginx.conf:\d+}


=== misconfigured: a zone in a file that others can read
--- http_config
gateway_zone main 1m file=conf/gateway.yaml;
--- must_die
--- error_log eval
qr{conf/gateway.yaml: is no plain file that belongs to this user alone \(0600\)}


=== misconfigured: a zone in a folder that is not there
--- http_config
gateway_zone main 1m file=/nowhere/zone;
--- must_die
--- error_log eval
qr{/nowhere/zone: create failed: No such file or directory}


=== names of the environment reach who reads the document again, without `env` in nginx.conf
--- http_config eval
$ENV{T_STATE_ONE} = $ENV{T_STATE_TWO} = $::Secret = CORE::join '', map { chr(97 + int rand 26) } 1 .. 48;
''
--- gateway
version: 1
auth: [{name: a, jwt: {issuer: i, audience: b, keys: [{alg: HS256, secret: "$env://T_STATE_ONE"}]}}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
routes: [{name: all, paths: ["/*"], upstream: u, auth: [a]}]
--- request
GET /a
--- error_code: 401
--- after_request eval
sub {
    my $token = 'Authorization: Bearer ' . jwt({iss => 'i', aud => 'b'}, $main::Secret);
    my $names = sub { my ($name) = @_; sub { (get('/', headers => $token)->{headers}{'x-route'} // '') eq $name } };
    ok(edit('name: all', 'name: edited', $names->('edited')), 'an edit');
    ok(reload(), 'reload');
    ok(edit('name: edited', 'name: again', $names->('again')), 'an edit after a reload');
    is($_->{status}, 200, 'each worker knows the secret') for each_worker('/', headers => $token);
    edit('$env://T_STATE_ONE', '$env://T_STATE_TWO', sub { errors() =~ /T_STATE_TWO/ });
    like(errors(), qr/\[error\].*the environment variable `T_STATE_TWO` is not set/, 'one that is new');
    is($_->{status}, 200, 'each worker goes on') for each_worker('/', headers => $token);
    ok(reload(), 'a reload');
    ok(edit('name: again', 'name: two', $names->('two')), 'hands it on, too');
}
--- no_error_log
[alert]
[emerg]
