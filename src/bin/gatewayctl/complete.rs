//! Completion for shells, made from the table of commands.

use crate::{COMMANDS, OPTIONS, Outcome, print};

/// The script for `shell`.
pub fn run(shell: &str) -> Outcome {
    let mut commands: Vec<&str> = COMMANDS.iter().map(|(form, _)| form.split(' ').next().unwrap_or(form)).collect();
    commands.dedup();
    let commands = commands.join(" ");
    let mut options: Vec<&str> = OPTIONS.iter().flat_map(|(form, _)| form.split([' ', ','])).collect();
    options.retain(|word| word.starts_with('-'));
    let options = options.join(" ");
    let kinds = "routes upstreams consumers auth limiters roles lists bans";
    let script = match shell {
        "bash" => format!(
            r#"_gatewayctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}}
    case $word in
    -*) COMPREPLY=($(compgen -W "{options}" -- "$word")); return ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
    elif [ "$COMP_CWORD" -eq 2 ] && [[ ${{COMP_WORDS[1]}} == get || ${{COMP_WORDS[1]}} == delete ]]; then
        COMPREPLY=($(compgen -W "{kinds}" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -F _gatewayctl gatewayctl
"#
        ),
        "zsh" => format!(
            r#"#compdef gatewayctl
_gatewayctl() {{
    if [[ $PREFIX == -* ]]; then
        compadd -- {options}
    elif (( CURRENT == 2 )); then
        compadd -- {commands}
    elif (( CURRENT == 3 )) && [[ $words[2] == (get|delete) ]]; then
        compadd -- {kinds}
    else
        _files
    fi
}}
compdef _gatewayctl gatewayctl
"#
        ),
        other => return Err(format!("no completion for `{other}`: `bash` or `zsh`")),
    };
    print(&script);
    Ok(0)
}
