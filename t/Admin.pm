# What the tests of gateway_admin share: its tokens, where it is asked, and a call.
package Admin;

use strict;
use warnings;

BEGIN { $ENV{TEST_NGINX_TOKENS} = "/tmp/gateway-tokens-$$" }
END { unlink $ENV{TEST_NGINX_TOKENS} }

our $Config = <<'CONF';
        add_header X-Route $gateway_route always;
        add_header X-Worker $pid always;
        location / { gateway_pass gateway; }
        location /v1/ { gateway_admin token_file=$TEST_NGINX_TOKENS; }
        location /under/ { gateway_admin token_file=$TEST_NGINX_TOKENS; allow 127.0.0.0/8; deny all; }
CONF

# Every block that says nothing else gets the file's policy and these locations; `$mode` says for a block in which mode.
sub serve {
    my $mode = shift;
    main::add_block_preprocessor(sub {
        my $block = shift;
        $block->set_value(gateway => $main::Policy) if !defined $block->gateway;
        $block->set_value(config => $Config) if !defined $block->config;
        my $root = Test::Nginx::Socket::server_root();
        my $said = $mode->($block);
        $block->set_value(http_config => "gateway_state logs/state;\ngateway_config $root/conf/gateway.yaml$said;\n" . ($block->http_config // ''))
            if !defined $block->http_config || $block->http_config !~ /gateway_state|# bare/;
        my ($mode_of, $text) = split / /, $block->tokens // "0600 ann\t0123456789abcdef\n# nobody\nbob\tfedcba9876543210", 2;
        Test::Base::Filter::tokens("$text\n", oct $mode_of);
    });
}

# Sections marked `eval` are evaluated in this package.
package Test::Base::Filter {
    use JSON::PP ();

    sub root { Test::Nginx::Socket::server_root() }

    # nginx's folder is made anew for each block, so the file waits beside it.
    sub tokens {
        my ($text, $mode) = @_;
        my $path = $ENV{TEST_NGINX_TOKENS};
        open my $out, '>', $path or die "$path: $!\n";
        print $out $text;
        close $out;
        chmod $mode, $path or die "$path: $!\n";
    }

    sub slurp { Test::Nginx::Util::read_log(root() . "/$_[0]", 0) }

    sub json { JSON::PP->new->canonical->decode($_[0]) }

    # One call as ann, and what its JSON says: (status, value, headers).
    sub call {
        my ($method, $path, $body, @headers) = @_;
        my $type = $method eq 'PATCH' ? 'application/merge-patch+json' : 'application/json';
        my $answer = Gateway::get($path, method => $method,
            headers => join("\r\n", 'Authorization: Bearer 0123456789abcdef', ($body ? "Content-Type: $type" : ()), @headers),
            body => ref $body ? JSON::PP->new->canonical->encode($body) : $body // '');
        my $value = ($answer->{headers}{'content-type'} // '') =~ /json/ && $answer->{body} ne '' ? json($answer->{body}) : undef;
        return ($answer->{status}, $value, $answer->{headers});
    }

    sub audit { map { json($_) } split /\n/, slurp('logs/state/audit.log') }
}

1;
