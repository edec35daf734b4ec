# gateway_state: what is kept there, and a start without a good document.

use lib 't';
use Gateway 'no_plan';

our $Binary = $ENV{TEST_NGINX_BINARY};
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
