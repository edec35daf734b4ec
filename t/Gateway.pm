package Gateway;

use strict;
use warnings;

use Cwd qw(abs_path);
use Digest::SHA qw(hmac_sha256);
use File::Basename qw(basename dirname);
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64url);
use Time::HiRes qw(sleep time);

my ($root, $kind);

sub free_port {
    for my $try (1 .. 1000) {
        my $port = 10_000 + int rand 22_000;
        return $port if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1);
    }
    die "no free port\n";
}

BEGIN {
    $root = abs_path(dirname(__FILE__) . '/..');
    my $own = "$root/t/lib";

    # OpenResty's library where it is installed; GATEWAY_TEST_NGINX=own asks for ours all the same.
    my $installed = grep { !ref && -f "$_/Test/Nginx/Socket.pm" } @INC;
    $kind = $installed && ($ENV{GATEWAY_TEST_NGINX} // '') ne 'own' ? 'installed' : 'own';
    unshift @INC, $own if $kind eq 'own';

    # Several files, and several checkouts, may be tested on one machine at once: each file has its own port and folder.
    $ENV{TEST_NGINX_SERVER_PORT} //= free_port();
    $ENV{TEST_NGINX_SERVROOT}    //= "$root/t/servroot-" . basename($0, '.t');
    $ENV{TEST_NGINX_BINARY}      //= -x '/usr/sbin/nginx' ? '/usr/sbin/nginx' : 'nginx';
}

use Test::More ();
use Test::Nginx::Socket ();

our $Module  = abs_path($ENV{GATEWAY_MODULE} // "$root/target/ngx_http_gateway_module.so");
my $document = server('root') . '/conf/gateway.yaml';
my @helpers  = qw(reload worker_pids master document edit get each_worker burst exchange errors accesses until_true jwt backend
    library lua has sleep time);

# Exports the library's functions and ours into the test file, as `use Test::Nginx::Socket` would.
sub import {
    my ($class, @args) = @_;
    my $caller = caller;
    my $plain  = grep { $_ eq 'plain' } @args;

    no strict 'refs';
    *{"${caller}::$_"} = \&$_ for @helpers;

    # Sections marked `eval` are evaluated in the one package, `init` and `skip_eval` in the other.
    for my $package ('Test::Base::Filter', 'Test::Nginx::Util') {
        *{"${package}::$_"} = \&$_ for @helpers;
    }
    *{"Test::Base::Filter::$_"} = Test::More->can($_) for qw(ok is isnt is_deeply like unlike cmp_ok diag);

    Test::Nginx::Socket::master_on();
    Test::Nginx::Socket::workers(2);
    Test::Nginx::Socket::worker_connections(1024);
    Test::Nginx::Socket::log_level('info');
    Test::Nginx::Socket::no_long_string();
    Test::Nginx::Socket::no_root_location() if !$plain;
    Test::Nginx::Socket::add_block_preprocessor(sub { prepare(shift) }) if !$plain;
    Test::Nginx::Socket::add_response_body_check(\&after_request);
    Test::Nginx::Socket::add_test_cleanup_handler(\&no_alerts) if !$plain;

    @_ = ('Test::Nginx::Socket', grep { $_ ne 'plain' } @args);
    goto &{Test::Nginx::Socket->can('import')};
}

# `own` or `installed`: which library runs the file.
sub library { $kind }

# True where nginx was configured with `$option`, such as `--with-http_v3_module`; says so where it was not.
sub has {
    my $option = shift;
    return 1 if `$ENV{TEST_NGINX_BINARY} -V 2>&1` =~ /\Q$option\E\b/;
    Test::More::diag("skipped: $ENV{TEST_NGINX_BINARY} is built without $option");
    return 0;
}

# True where nginx takes the Lua module of the system, which fits one version of nginx alone; says why where it does not.
sub lua {
    my $directory = '/usr/lib/nginx/modules';
    my @libraries = grep { -d } '/usr/share/lua/5.1/resty/core', '/usr/share/lua/5.1/resty';
    my $why = !-f "$directory/ngx_http_lua_module.so" || !@libraries ? 'is not installed' : undef;
    if (!defined $why) {
        my $root = File::Temp->newdir;
        mkdir "$root/logs";
        open my $out, '>', "$root/nginx.conf" or die "$root: $!\n";
        print $out "load_module $directory/$_.so;\n" for qw(ndk_http_module ngx_http_lua_module);
        print $out "error_log stderr; pid $root/pid; events {}\n";
        close $out or die "$root: $!\n";
        my $said = `$ENV{TEST_NGINX_BINARY} -t -e stderr -p $root -c $root/nginx.conf 2>&1`;
        return 1 if $? == 0;
        ($why) = $said =~ /\[emerg\] (?:\d+#\d+: )?(.*)/;
        $why //= 'is not taken';
    }
    Test::More::diag("skipped: the Lua module: $why");
    return 0;
}

sub server {
    return $_[0] eq 'root' ? Test::Nginx::Socket::server_root() : Test::Nginx::Socket::server_port();
}

# What every block gets unless it says otherwise.
sub prepare {
    my $block = shift;

    $block->set_value(main_config => "load_module $Module;\n" . ($block->main_config // ''));

    $block->set_value(no_error_log => "[error]\n[alert]\n[emerg]")
        if !defined $block->no_error_log && !defined $block->error_log && !defined $block->must_die;

    # Alerts that belong to the block have to come.
    if (defined(my $alerts = $block->alerts)) {
        $block->set_value(error_log => qr/\[alert\].*(?:$alerts)/) if !defined $block->error_log;
    }

    # What keeps nginx from starting is told as such.
    if (defined $block->must_die && defined(my $told = $block->error_log)) {
        $block->set_value(error_log => ['[emerg]', ref $told eq 'ARRAY' ? @$told : ref $told ? $told : split /\n+/, $told]);
    }

    my $policy = $block->gateway;
    return if !defined $policy;

    if (ref(my $files = $block->user_files)) {
        $block->set_value(user_files => [@$files, [$document, $policy]]);
    }
    else {
        $block->set_value(user_files => ">>> $document\n$policy" . ($files // ''));
    }

    my $http = $block->http_config // '';
    my $more = '';
    $more .= "gateway_zone main 16m;\n" if $http !~ /\bgateway_zone\b/;
    $more .= "gateway_config $document;\n" if $http !~ /\bgateway_config\b/;
    $more .= "upstream gateway { gateway_balancer; keepalive 32; }\n" if $http !~ /\bupstream\s+gateway\b/;
    $more .= sample_servers($policy, $http);
    $block->set_value(http_config => $more . $http);

    $block->set_value(config => <<'CONF') if !defined $block->config;
        add_header X-Route $gateway_route always;
        add_header X-Worker $pid always;
        location / { gateway_pass gateway; }
        location = /metrics { gateway_metrics; }
        location = /health { gateway_health live; }
CONF
}

# A server that says its name, for each $TEST_NGINX_RAND_PORT_N that the document names as a node.
sub sample_servers {
    my ($policy, $http) = @_;
    my @names = qw(zero one two three four five six);
    my $servers = '';

    for my $number (1 .. $#names) {
        my $port = "\$TEST_NGINX_RAND_PORT_$number";
        next if $policy !~ /\Q$port\E\b/ || $http =~ /\blisten[^;]*\Q$port\E\b/;
        my $failures = join ' ', map { "location = /status/$_ { return $_ \"$names[$number] $_\\n\"; }" } 400, 404, 500, 502, 503;
        $servers .= <<"CONF";
server {
    listen 127.0.0.1:$port;
    add_header X-Backend $names[$number] always;
    location / { return 200 "$names[$number] \$request_method \$request_uri\\n"; }
    location = /headers { return 200 "host=\$http_host xff=\$http_x_forwarded_for id=\$http_x_request_id user=\$http_x_user\\n"; }
    $failures
}
CONF
    }

    return $servers;
}

# `--- after_request eval`: a list of subs; the n-th runs when the n-th answer has been checked.
sub after_request {
    my ($block, $body, $index) = @_;
    my $steps = $block->after_request // return;
    $steps = [$steps] if ref $steps ne 'ARRAY';
    my $step = $steps->[$index] // return;
    $step->($body);
}

# An alert is a defect whatever the block was about, unless `--- alerts` says which ones belong to it. A panic that was
# fenced is one of them, and so is a connection that nobody closed.
sub no_alerts {
    my $block = shift;
    return if defined $block->SKIP || defined $block->must_die;
    my $expected = $block->alerts;
    my @found = grep { /\[alert\]/ && !(defined $expected && /$expected/) } split /\n/, errors();
    Test::More::is("@found", '', $block->name . ' - no alert') if @found;
}

# The error log of the running server, whole.
sub errors { slurp(server('root') . '/logs/error.log') }

# The access log, once the log phase of the last answer is over.
sub accesses {
    sleep 0.05;
    return slurp(server('root') . '/logs/access.log');
}

# True as soon as `$check` is, false if that has not come about within `$seconds`.
sub until_true {
    my ($seconds, $check) = @_;
    my $until = time + $seconds;
    while (1) {
        return 1 if $check->();
        return if time > $until;
        sleep 0.02;
    }
}

# The pids of the workers that take new connections, oldest first.
sub worker_pids {
    my $master = master() // return;
    my @pids;
    for my $try (1 .. 100) {
        my $unnamed = 0;
        @pids = ();
        for my $stat (glob '/proc/[0-9]*/stat') {
            my ($pid, $parent) = slurp($stat) =~ /^(\d+) \(.*\) \S (\d+)/s or next;
            next if $parent != $master;
            my $title = slurp("/proc/$pid/cmdline");
            # One that was just forked still has its master's title.
            $unnamed++ if $title =~ /master process/;
            push @pids, $pid if $title =~ /worker process/ && $title !~ /shutting down/;
        }
        last if !$unnamed;
        sleep 0.02;
    }
    return sort { $a <=> $b } @pids;
}

# Sends HUP and waits until new workers alone take connections; false if that has not come about within 5 s.
sub reload {
    my %old = map { $_ => 1 } worker_pids();
    kill HUP => master() // return;

    my $until = time + 5;
    while (time < $until) {
        my @now = worker_pids();
        return 1 if @now && !grep { $old{$_} } @now;
        sleep 0.02;
    }
    return;
}

# Puts `$text` in the place of the document, by rename. It is live within a second: until `$check` says so, or that long.
sub document {
    my ($text, $check) = @_;
    my $expanded = Test::Nginx::Util::expand_env_in_text($text, 'document', $Test::Nginx::Util::RandPorts);

    open my $out, '>:raw', "$document.new" or die "$document.new: $!\n";
    print $out $expanded;
    close $out or die "$document.new: $!\n";
    rename "$document.new", $document or die "$document: $!\n";

    return until_true(1, $check) if $check;
    sleep 1;
    return 1;
}

# Replaces in the document that is there; dies if there is nothing to replace.
sub edit {
    my ($from, $to, $check) = @_;
    my $text = slurp($document);
    my $pattern = ref $from ? $from : qr/\Q$from\E/;
    $text =~ s/$pattern/$to/ or die "edit: the document has no $from\n";
    return document($text, $check);
}

# One request on a connection of its own: {status, headers, body}; status 0 where nothing came.
sub get {
    my ($path, %options) = @_;
    my $method  = $options{method} // 'GET';
    my $body    = $options{body} // '';
    my $headers = $options{headers} // '';
    $headers .= "\r\n" if $headers ne '' && $headers !~ /\r\n\z/;
    $headers .= 'Content-Length: ' . length($body) . "\r\n" if $body ne '';

    my $host     = $options{host} // 'localhost';

    my $raw = exchange("$method $path HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n$headers\r\n$body", $options{port});
    my ($head, $rest) = split /\r\n\r\n/, $raw, 2;
    my ($status) = ($head // '') =~ m{^HTTP/\S+ (\d+)};
    my %headers = ($head // '') =~ /^([^:\r\n]+):[ \t]*([^\r\n]*)/mg;
    return {status => $status // 0, body => $rest // '', headers => {map { lc($_) => $headers{$_} } keys %headers}};
}

# The same request to every worker, each on a connection of its own: what each of them said.
sub each_worker {
    my ($path, %options) = @_;
    my %missing = map { $_ => 1 } worker_pids();
    my @answers;
    for my $try (1 .. 400) {
        my $answer = get($path, %options);
        push @answers, $answer if delete $missing{$answer->{headers}{'x-worker'} // ''};
        return @answers if !%missing;
    }
    die "each_worker: no answer from @{[keys %missing]}\n";
}

# `$count` requests at once over several connections, so that every worker gets some: {status => how many}.
sub burst {
    my ($count, $path, %options) = @_;
    my $connections = $options{connections} // 8;
    my $headers     = $options{headers} // '';
    $headers .= "\r\n" if $headers ne '' && $headers !~ /\r\n\z/;

    my (%seen, %text, %sockets);
    my $select = IO::Select->new;
    for my $number (0 .. $connections - 1) {
        my $share = int(($count + $connections - 1 - $number) / $connections) or next;
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server('port'), Timeout => 5)
            or die "burst: $!\n";
        my $request = "GET $path HTTP/1.1\r\nHost: localhost\r\n$headers";
        print $socket "$request\r\n" x ($share - 1), "${request}Connection: close\r\n\r\n";
        $socket->flush;
        $select->add($socket);
    }

    while ($select->count) {
        my @ready = $select->can_read($options{timeout} // 10) or die "burst: no answer\n";
        for my $socket (@ready) {
            next if sysread $socket, $text{$socket}, 65536, length($text{$socket} //= '');
            $select->remove($socket);
            $seen{$1}++ while $text{$socket} =~ m{^HTTP/1\.1 (\d+)}mg;
        }
    }
    return \%seen;
}

# A token as RFC 7515 has it, HS256 unless `$header` says otherwise: {sub => 'u'} becomes `eyJ...`.
sub jwt {
    my ($claims, $secret, $header) = @_;
    my $json = JSON::PP->new->canonical;
    my $text = join '.', map { encode_base64url($json->encode($_)) } {alg => 'HS256', typ => 'JWT', %{$header // {}}},
        {exp => int(time) + 3600, %$claims};
    return "$text." . encode_base64url(hmac_sha256($text, $secret));
}

# The demo's backend on a free port, until the file ends: echoes bodies and WebSockets, is slow or fails when told.
sub backend {
    my @options = @_;
    my $port = free_port();
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        exec 'python3', "$root/conf/demo/backends", @options, $port or die "python3: $!\n";
    }
    Test::Nginx::Socket::add_cleanup_handler(sub {
        # Runs as the file ends, too: its exit status is not the backend's.
        local $?;
        kill TERM => $pid;
        waitpid $pid, 0;
    });

    for my $try (1 .. 200) {
        return $port if IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1);
        sleep 0.02;
    }
    die "backend: not up\n";
}

# Writes `$request` as it is and reads until the server closes or is silent for 10 s.
sub exchange {
    my ($request, $port) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port // server('port'), Timeout => 5)
        or return '';
    local $SIG{PIPE} = 'IGNORE';
    print $socket $request;
    $socket->flush;

    my ($text, $select) = ('', IO::Select->new($socket));
    while ($select->can_read(10)) {
        sysread $socket, $text, 65536, length $text or last;
    }
    return $text;
}

sub master {
    my $pid = slurp(server('root') . '/logs/nginx.pid');
    return $pid =~ /^(\d+)/ ? $1 : undef;
}

sub slurp {
    open my $in, '<:raw', shift or return '';
    local $/;
    return scalar <$in> // '';
}

1;

__END__

=head1 NAME

Gateway - what every file in t/ begins with

=head1 SYNOPSIS

    use lib 't';
    use Gateway 'no_plan';

    run_tests();

    __DATA__

    === the limit is one for both workers
    --- gateway
    version: 1
    limiters: [{name: few, key: [ip], rate: 1/s, burst: 2}]
    upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: $TEST_NGINX_RAND_PORT_1}]}]
    routes: [{name: all, paths: ["/*"], upstream: u, limits: [few]}]
    --- request eval
    ["GET /a", "GET /b", "GET /c"]
    --- error_code eval
    [200, 200, 429]
    --- response_body_like eval
    ["one GET /a", "one GET /b", "limit.exceeded"]

=head1 DESCRIPTION

Files are in Test::Nginx::Socket's data format, for OpenResty's library where it is installed, for F<t/lib> elsewhere
(C<GATEWAY_TEST_NGINX=own> forces the latter). Each block gets C<load_module>, two workers under a master, and a silent
error log as an expectation unless it names what it expects.

=head2 Sections

=over

=item gateway

The YAML document. It is written to the server's F<conf/gateway.yaml>; C<gateway_zone>, C<gateway_config>,
C<upstream gateway> and, unless there is a C<config>, C<location /> come with it. For each C<$TEST_NGINX_RAND_PORT_1>
to C<_6> in it, a sample server runs there that answers C<one GET /path> (C<two>, ...), shows what it was sent at
C</headers>, and fails at C</status/500> and its like.

=item after_request eval

A list of subs; the n-th runs when the n-th answer has been checked. This is the place for C<reload()> and C<edit()>.

=item alerts

A pattern of those C<[alert]> lines that the block brings about, at least once; any other one fails it.

=back

=head2 Functions

C<reload()>, C<worker_pids()>, C<master()>, C<document($yaml, $check)>, C<edit($from, $to, $check)>,
C<get($path, %options)>, C<each_worker($path, %options)>, C<burst($count, $path, %options)>, C<exchange($bytes)>,
C<errors()>, C<accesses()>, C<until_true($seconds, $check)>, C<jwt(\%claims, $secret, \%header)>, C<backend(@options)>, C<library()>,
C<lua()> and C<has($option)> for what this nginx has, and
C<sleep> and C<time> with fractions of a second; each is described where it stands.

Answers say in C<X-Worker> which worker gave them and in C<X-Route> which route it took, where there is no C<config>.

=head2 Environment

C<TEST_NGINX_BINARY>, C<GATEWAY_MODULE> (the .so), C<TEST_NGINX_SERVER_PORT>, C<TEST_NGINX_SERVROOT>.
C<use Gateway 'plain'> leaves the module out: that is for tests of the runner itself.

=cut
