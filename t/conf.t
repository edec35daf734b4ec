# Every configuration in conf/ passes `nginx -t` with the document beside it, and `-t` leaves nothing behind.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Temp qw(tempdir);
use Test::More;

my $root   = abs_path(dirname(__FILE__) . '/..');
my $module = abs_path($ENV{GATEWAY_MODULE} // "$root/target/ngx_http_gateway_module.so");
my $nginx  = $ENV{TEST_NGINX_BINARY} // '/usr/sbin/nginx';

# The secrets that the documents name.
$ENV{JWT_SECRET} = $ENV{DEMO_JWT_SECRET} = join '', map { chr(97 + int rand 26) } 1 .. 48;

for my $file (glob "$root/conf/*.conf") {
    my $dir = tempdir(CLEANUP => 1);
    # The workers are somebody else.
    chmod 0755, $dir;
    mkdir "$dir/$_" for qw(conf modules logs cache);
    symlink $module, "$dir/modules/ngx_http_gateway_module.so" or die "$!\n";
    copy("$root/conf/gateway.yaml", "$dir/conf/gateway.yaml");
    # What needs root or another machine: the log's folder, and an address that everybody reaches.
    copy($file, "$dir/conf/nginx.conf", sub { s{/var/log/nginx/}{$dir/logs/}g; s{/var/cache/nginx/}{$dir/cache/}g; s{listen 8080}{listen 127.0.0.1:8080}g; $_ });

    my $temp = join ' ', map { "${_}_temp_path $dir/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
    copy("$dir/conf/nginx.conf", "$dir/conf/nginx.conf", sub { s/^http \{/http { $temp/m; $_ });

    my $output = `$nginx -t -p $dir/ -c $dir/conf/nginx.conf -g 'pid $dir/nginx.pid;' 2>&1`;
    like($output, qr/test is successful/, basename($file)) or diag($output);
    unlike($output, qr/\[(?:warn|error|alert|emerg)\](?!.*(?:"user" directive|not supported))/, basename($file) . ' without a warning') or diag($output);
    ok(!-s "$dir/nginx.pid", 'nothing was started');
}

done_testing();

sub copy {
    my ($from, $to, $change) = @_;
    open my $in, '<', $from or die "$from: $!\n";
    local $_ = do { local $/; <$in> };
    $change->() if $change;
    open my $out, '>', $to or die "$to: $!\n";
    print $out $_;
    close $out or die "$to: $!\n";
}
