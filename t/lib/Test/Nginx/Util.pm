package Test::Nginx::Util;

# The server's side of our runner: settings, files, starting, stopping and the log of one nginx.
# See Test::Nginx::Socket for what this is and when it is used.

use strict;
use warnings;

use parent 'Exporter';

use Carp qw(croak);
use File::Path qw(make_path remove_tree);
use File::Spec;
use IO::Socket::INET;
use List::Util qw(shuffle);
use POSIX ();
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
    $ServRoot $ServerPort $ServerPortForClient $ServerAddr $ServerName $RepeatEach $Verbose $RandPorts
    repeat_each workers worker_connections master_on master_off master_process_enabled log_level timeout
    server_name server_addr server_port server_port_for_client server_root html_dir config_preamble
    no_long_string no_root_location no_shuffle use_hup no_nginx_manager check_accum_error_log env_to_nginx
    add_block_preprocessor add_cleanup_handler add_test_cleanup_handler
    bail_out expand_env_in_text parse_time sleep_time error_log_data access_log_data is_running
    get_pid_from_pidfile run_tests use_http2
);

our $NginxBinary = $ENV{TEST_NGINX_BINARY} || 'nginx';
our $ServerAddr  = '127.0.0.1';
our $ServerName  = 'localhost';
our $ServerPort  = $ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT} || free_port(1984);
our $ServerPortForClient = $ENV{TEST_NGINX_CLIENT_PORT} || $ServerPort;
our $ServRoot    = File::Spec->rel2abs($ENV{TEST_NGINX_SERVROOT} || 't/servroot');
our $HtmlDir     = "$ServRoot/html";
our $ConfFile    = "$ServRoot/conf/nginx.conf";
our $PidFile     = "$ServRoot/logs/nginx.pid";
our $ErrLogFile  = "$ServRoot/logs/error.log";
our $AccLogFile  = "$ServRoot/logs/access.log";

our $Workers           = 1;
our $WorkerConnections = 64;
our $MasterProcess     = $ENV{TEST_NGINX_MASTER_PROCESS} || 'off';
our $LogLevel          = $ENV{TEST_NGINX_LOG_LEVEL} || 'debug';
our $RepeatEach        = 1;
our $Timeout           = $ENV{TEST_NGINX_TIMEOUT} || 3;
our $Pause             = $ENV{TEST_NGINX_SLEEP} || 0.015;
our $Verbose           = $ENV{TEST_NGINX_VERBOSE};
our $NoShuffle         = $ENV{TEST_NGINX_NO_SHUFFLE} || 0;
our $ConfigPreamble    = '';

# Set by Test::Nginx::Socket: how one block is sent and checked, and how its error log is.
our ($SendAndCheck, $CheckErrorLog);

# Ports that the running block asked for as $TEST_NGINX_RAND_PORT_N.
our $RandPorts = {};

my ($no_root_location, $check_accumulated, $error_log_position, $version, $running) = (0, 0, 0);
my (@preprocessors, @cleanups, @test_cleanups, @env);

$ENV{TEST_NGINX_SERVER_ROOT} = $ServRoot;

# Settings. Those with an argument set, all of them answer with the value.

sub repeat_each (@)            { $RepeatEach = shift if @_; $RepeatEach }
sub workers (@)                { $Workers = shift if @_; $Workers }
sub worker_connections (@)     { $WorkerConnections = shift if @_; $WorkerConnections }
sub log_level (@)              { $LogLevel = shift if @_; $LogLevel }
sub timeout (@)                { $Timeout = shift if @_; $Timeout }
sub server_name (@)            { $ServerName = shift if @_; $ServerName }
sub server_addr (@)            { $ServerAddr = shift if @_; $ServerAddr }
sub server_port (@)            { $ServerPort = shift if @_; $ServerPort }
sub server_port_for_client (@) { $ServerPortForClient = shift if @_; $ServerPortForClient }
sub master_process_enabled (@) { $MasterProcess = shift() ? 'on' : 'off' if @_; $MasterProcess }
sub master_on ()               { $MasterProcess = 'on' }
sub master_off ()              { $MasterProcess = 'off' }
sub config_preamble ($)        { $ConfigPreamble = shift }
sub no_root_location ()        { $no_root_location = 1 }
sub no_shuffle ()              { $NoShuffle = 1 }
sub check_accum_error_log ()   { $check_accumulated = 1 }
sub server_root ()             { $ServRoot }
sub html_dir ()                { $HtmlDir }
sub sleep_time ()              { $Pause }

# We always show whole strings.
sub no_long_string ()          { }

sub use_hup ()          { croak 'use_hup: this runner starts nginx anew for every block' }
sub no_nginx_manager () { croak 'no_nginx_manager: this runner starts nginx itself' }

sub env_to_nginx (@) {
    /^[A-Za-z_][^\n]*$/ or croak "env_to_nginx: bad value: $_" for @_;
    push @env, @_;
}

# The latest one runs first.
sub add_block_preprocessor (&)    { unshift @preprocessors, shift }
sub add_cleanup_handler ($)       { unshift @cleanups, shift }
sub add_test_cleanup_handler ($)  { unshift @test_cleanups, shift }

sub run_tests () {
    $ENV{TEST_NGINX_SERVER_PORT} ||= $ServerPort;
    $version = nginx_version();

    my @blocks = Test::Base::blocks();
    @blocks = shuffle @blocks unless $NoShuffle;

    for my $block (@blocks) {
        $_->($block) for @preprocessors;
        $block->set_value(name => "$0 " . $block->name);
        run_block($block);
        $_->($block) for @test_cleanups;
    }

    finish();
}

sub run_block {
    my $block = shift;
    my $name  = $block->name;

    return if defined $block->SKIP;

    $RandPorts = {};
    my $config = expand_env_in_text($block->config, $name, $RandPorts);

    if (my ($count, $reason) = skipped($block)) {
        for my $round (1 .. $RepeatEach) {
            SKIP: { Test::More::skip("$name - $reason", $count) }
        }
        return;
    }

    local $LogLevel = $block->log_level || $LogLevel;

    if (!defined $config) {
        # Without a configuration of its own a block talks to the server of the block before.
        bail_out("$name - no config section, and no server from a block before") unless $running;
    }
    else {
        stop();
        lay_files($block, $config);
        return must_die($block) if defined $block->must_die;
        start($block);
    }

    if ($block->init) {
        eval $block->init;
        bail_out("$name - init failed: $@") if $@;
    }

    $error_log_position = 0;
    for my $round (0 .. $RepeatEach - 1) {
        write_user_files($block) if $round > 0;
        $SendAndCheck->($block, $round);
    }
}

# (number of tests, reason) when the block is not for this nginx or this machine.
sub skipped {
    my $block = shift;

    if (defined(my $rule = $block->skip_nginx)) {
        my ($count, $op, $than, $why) = $rule =~ /^\s*(\d+)\s*:\s*([<>]=?)\s*(\d+\.\d+\.\d+)(?:\s*:\s*(.*?))?\s*$/s
            or bail_out($block->name . " - bad skip_nginx: $rule");
        my $order = vnum($version) <=> vnum($than);
        my $skip = $op eq '<' ? $order < 0 : $op eq '<=' ? $order <= 0 : $op eq '>' ? $order > 0 : $order >= 0;
        return ($count, $why || "nginx version $op $than") if $skip;
    }

    if (defined(my $rule = $block->skip_eval)) {
        my ($count, $code) = $rule =~ /^\s*(\d+)\s*:\s*(.*)/s or bail_out($block->name . " - bad skip_eval: $rule");
        my $skip = eval $code;
        bail_out($block->name . " - skip_eval failed: $@") if $@;
        return ($count, 'skip_eval') if $skip;
    }

    return;
}

sub nginx_version {
    my ($found) = `$NginxBinary -v 2>&1` =~ m{/(\d+\.\d+\.\d+)} or bail_out("cannot run $NginxBinary");
    return $found;
}

sub vnum { sprintf '%d%03d%03d', split /\./, shift }

# Files.

sub lay_files {
    my ($block, $config) = @_;

    # Only what an earlier run of ours made: a TEST_NGINX_SERVROOT that points at something else is left alone.
    if (-d $ServRoot) {
        remove_tree(grep { -e } map { "$ServRoot/$_" } qw(conf html logs cache));
        remove_tree(glob("$ServRoot/*_temp"), glob("$ServRoot/*_cache"));
        rmdir $ServRoot or bail_out("cannot remove $ServRoot (not empty?): $!");
    }

    make_path(map { "$ServRoot/$_" } qw(conf html logs));
    write_file("$HtmlDir/index.html",
        '<html><head><title>It works!</title></head><body>It works!</body></html>');

    if ($block->post_setup_server_root) {
        eval $block->post_setup_server_root;
        bail_out($block->name . " - post_setup_server_root failed: $@") if $@;
    }

    write_user_files($block);
    write_file($ConfFile, configuration($block, $config));
}

sub write_user_files {
    my $block = shift;
    my $files = $block->user_files or return;

    if (!ref $files) {
        my @parts = split /^>>> (\S+)(?:[ \t]+(.+))?\n/m, $files;
        shift @parts;
        $files = [];
        while (my ($file, $date, $body) = splice @parts, 0, 3) {
            push @$files, [$file, $body, $date];
        }
    }

    for (@$files) {
        my ($file, $body, $date) = @$_;
        my $path = $file =~ m{^/} ? $file : "$HtmlDir/$file";
        make_path($1) if $path =~ m{(.*)/} && !-d $1;
        write_file($path, expand_env_in_text($body // '', $block->name, $RandPorts));
        system('env', 'TZ=GMT', 'touch', '-t', $date, $path) if $date;
    }
}

sub write_file {
    my ($path, $content) = @_;
    open my $out, '>:raw', $path or bail_out("cannot write $path: $!");
    print $out $content;
    close $out or bail_out("cannot write $path: $!");
}

sub configuration {
    my ($block, $config) = @_;

    my ($main, $http, $post_main) = map { expand_env_in_text($_ // '', $block->name, $RandPorts) }
        map { scalar $block->$_ } qw(main_config http_config post_main_config);
    my $error_log   = expand_env_in_text($block->error_log_file || $ErrLogFile, $block->name, $RandPorts);
    my $server_name = $block->server_name // $ServerName;
    my $env         = join '', map { /\s/ ? "env '$_';\n" : "env $_;\n" } @env;
    my $user        = $> == 0 ? 'user root;' : '';

    my ($listen, $http2) = ($ServerPort, '');
    if (use_http2($block)) {
        vnum($version) >= vnum('1.25.1') ? ($http2 = 'http2 on;') : ($listen .= ' http2');
    }

    my $temp = join "\n    ", map { "${_}_temp_path $ServRoot/${_}_temp;" }
        grep { $http !~ /\b${_}_temp_path\b/ } qw(client_body proxy fastcgi scgi uwsgi);
    my $root = $no_root_location ? '' : "location / {\n            root $HtmlDir;\n            index index.html index.htm;\n        }";

    return <<"CONF";
worker_processes $Workers;
daemon on;
master_process $MasterProcess;
error_log $error_log $LogLevel;
pid $PidFile;
$user
$env
$main

http {
    access_log $AccLogFile;
    $temp
    default_type text/plain;
    keepalive_timeout 68s;

$http

    server {
        listen $listen; $http2
        server_name '$server_name';
        client_max_body_size 30M;
$ConfigPreamble
$config
        $root
    }
}

$post_main

events {
    accept_mutex off;
    worker_connections $WorkerConnections;
}
CONF
}

# `$TEST_NGINX_X` is the environment's; `$TEST_NGINX_RAND_PORT_N` a free port, the same within one block.
sub expand_env_in_text ($$$) {
    my ($text, $name, $ports) = @_;

    return if !defined $text;
    return $text if ref $text;

    $text =~ s{\$(TEST_NGINX_[_A-Z0-9]+)}{
        my $variable = $1;
        if ($variable =~ /^TEST_NGINX_RAND_PORT_\d+$/) {
            $ports->{$variable} //= free_port(undef, $ServerPort, values %$ports);
        }
        else {
            $ENV{$variable} // bail_out("$name - no environment variable $variable");
        }
    }eg;

    return $text;
}

# The wanted port when it is free, else any other but those in use.
sub free_port {
    my ($wanted, @used) = @_;

    for my $try (0 .. 999) {
        my $port = $try == 0 && $wanted ? $wanted : 10_000 + int rand 22_000;
        next if grep { defined && $_ == $port } @used;
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1);
        return $port if $socket;
    }

    die "no free port\n";
}

# The process.

sub start {
    my $block = shift;
    my $started = time;

    while ((my $status = launch($block)) != 0) {
        # A port of the block before may be in TIME_WAIT or held for an instant; anything else does not heal.
        my $log = read_log($ErrLogFile, 0);
        bail_out($block->name . " - nginx does not start ($status):\n$log")
            if time - $started > 5 || $log !~ /Address already in use/;
        sleep 0.2;
        unlink $ErrLogFile;
    }

    $running = 1;
    sleep 0.005 while !-s $PidFile && time - $started < 10;
    sleep $Pause;
}

# The exit status of the launcher: nginx reads its configuration, binds and only then goes to the background.
sub launch {
    my $block = shift;

    my $pid = fork // bail_out("fork: $!");
    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null' if defined $block->suppress_stderr || defined $block->must_die;
        exec $NginxBinary, '-e', $ErrLogFile, '-p', "$ServRoot/", '-c', $ConfFile
            or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    return $?;
}

sub must_die {
    my $block = shift;
    my ($name, $want) = ($block->name, $block->must_die);

    for my $round (0 .. $RepeatEach - 1) {
        $error_log_position = 0;
        my $status = launch($block);

        if (defined $want && $want =~ /^\s*(\d+)\s*$/) {
            Test::More::is($status >> 8, $1, "$name - die with the expected exit code");
        }
        else {
            Test::More::isnt($status, 0, "$name - die as expected");
        }
        $CheckErrorLog->($block, $round);

        if ($status == 0) {
            $running = 1;
            sleep 0.2;
            stop();
        }
    }
}

sub stop {
    undef $running;
    my $pid = get_pid_from_pidfile('') or return;

    kill TERM => $pid;
    my $asked = time;
    while (is_running($pid)) {
        if (time - $asked > 10) {
            # nginx called setsid: its workers are in its group.
            Test::More::diag("nginx $pid does not stop: killed");
            kill KILL => -$pid;
            sleep 0.1;
            last;
        }
        sleep 0.01;
    }
    unlink $PidFile;
}

# A daemon that has ended stays a zombie until init looks after it, which in containers may take seconds.
sub is_running ($) {
    my $pid = shift;
    return kill(0, $pid) && read_log("/proc/$pid/stat", 0) !~ /\) Z /;
}

sub get_pid_from_pidfile ($) {
    open my $in, '<', $PidFile or return;
    my $pid = <$in> // '';
    return $pid =~ /^(\d+)/ ? $1 : undef;
}

# Logs.

sub error_log_data () {
    # The log phase comes after the answer.
    sleep $Pause * 3;
    my $text = read_log($ErrLogFile, $check_accumulated ? 0 : $error_log_position);
    $error_log_position += length $text unless $check_accumulated;
    return [$text =~ /[^\n]*\n|[^\n]+/g];
}

sub access_log_data () {
    sleep $Pause * 3;
    return [read_log($AccLogFile, 0) =~ /[^\n]*\n|[^\n]+/g];
}

sub read_log {
    my ($path, $from) = @_;
    open my $in, '<:raw', $path or return '';
    seek $in, $from, 0;
    local $/;
    return scalar <$in> // '';
}

sub parse_time ($) {
    my $time = shift // return;
    return $1 / 1000 if $time =~ /^\s*([\d.]+)\s*ms\s*$/;
    return $1 if $time =~ /^\s*([\d.]+)\s*s?\s*$/;
    return $time;
}

sub use_http2 ($) {
    my $block = shift;
    return if !defined $block->http2;
    bail_out($block->name . ' - http2 goes with request alone')
        if defined $block->raw_request || defined $block->pipelined_requests;
    return 1;
}

# The end.

# Ends this file, not the whole run: the other files still have something to say.
sub bail_out (@) {
    my $why = join '', @_;
    finish();
    Test::More::diag($why);
    Test::More::fail('harness: ' . (split /\n/, $why)[0]);
    exit 255;
}

my $owner = $$;

sub finish {
    $_->() for splice @cleanups;
    stop() if !$ENV{TEST_NGINX_NO_CLEAN};
}

END {
    local $?;
    finish() if $$ == $owner;
}

$SIG{$_} = sub { exit 130 } for qw(INT TERM HUP);

1;
