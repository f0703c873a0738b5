"""`medvision completion`: the script that a shell needs for Tab, and what the script asks for."""

import sys
from collections.abc import Sequence

from medvision.commands.candidates import list_candidates, split_line
from medvision.errors import MedvisionError, did_you_mean, printable

_BASH = r"""# Tab completion of medvision, in ~/.bashrc: eval "$(medvision completion bash)"
_medvision() {
    COMPREPLY=()
    local candidate
    while IFS= read -r candidate; do
        COMPREPLY+=("$candidate")
    done < <("${COMP_WORDS[0]}" completion bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" \
        2>/dev/null)
}
complete -o nospace -o default -F _medvision medvision
"""
_ZSH = r"""#compdef medvision
# Tab completion of medvision, in ~/.zshrc: eval "$(medvision completion zsh)"
_medvision() {
    local -a whole parts told_whole told_parts
    local candidate told
    while IFS=$'\t' read -r candidate told; do
        if [[ $candidate == *' ' ]]; then
            whole+=("${candidate% }") told_whole+=("${candidate% }${told:+  -- $told}")
        else
            parts+=("$candidate") told_parts+=("$candidate${told:+  -- $told}")
        fi
    done < <("${words[1]}" completion zsh "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)
    if (( $#whole + $#parts == 0 )); then
        compset -P '*='
        _files
        return
    fi
    compadd -l -d told_whole -a whole
    compadd -l -S '' -d told_parts -a parts
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _medvision medvision
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH}


def launch(words: Sequence[str], usage: str) -> int:
    """Print the script that teaches a shell to complete commands, keys, choices and names of runs.

    bash    eval "$(medvision completion bash)"    in ~/.bashrc
    zsh     eval "$(medvision completion zsh)"     in ~/.zshrc
    """
    shell, *asked = words or [""]
    if shell not in _SCRIPTS:
        near = did_you_mean(shell, _SCRIPTS)
        raise MedvisionError(f"medvision completion needs a shell{near}: {' or '.join(_SCRIPTS)}")
    if asked:
        answer = _answer_bash if shell == "bash" else _answer_zsh
        sys.stdout.write("".join(f"{line}\n" for line in answer(*asked, usage=usage)))
    else:
        sys.stdout.write(_SCRIPTS[shell])
    return 0


def _answer_bash(line: str, breaks: str = "", *, usage: str) -> list[str]:
    """Leave out what stands before the last character at which bash parts words."""
    typed = split_line(line, breaks)
    words = [printable(text[typed.begin :]) for text, _ in list_candidates(typed, usage)]
    return [word.rstrip() for word in words] if typed.quoted else words


def _answer_zsh(line: str, *, usage: str) -> list[str]:
    found = list_candidates(split_line(line), usage)
    return ["\t".join(map(printable, candidate)) for candidate in found]
