# Names of models, pools, transfers and settings, which the running daemon knows.
_speedloader_names() {
    local -a names
    names=("${(@f)$("${(Q)words[1]}" complete -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    [[ -n "${names[1]}" ]] || return 1
    if [[ "${names[1]}" == *= ]]; then
        compadd -S '' -a names
    else
        compadd -a names
    fi
}

