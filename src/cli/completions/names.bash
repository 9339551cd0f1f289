# Names of models, pools, transfers and settings, which the running daemon knows. Bash ends words at colons and equals
# signs, which names have, so the words are put together again, and what is before the last of them is left out of the
# answer.
_speedloader_names() {
    local line="${COMP_LINE:0:COMP_POINT}" part words=() names name index
    for ((index = 0; index <= COMP_CWORD; index++)); do
        part="${COMP_WORDS[index]}"
        ((index == COMP_CWORD)) && part="${line#"${line%%[![:blank:]]*}"}"
        if ((index > 0)) && [[ "$line" != [[:blank:]]* ]]; then
            words[${#words[@]}-1]+="$part"
        else
            line="${line#"${line%%[![:blank:]]*}"}"
            words+=("$part")
        fi
        line="${line#"$part"}"
    done

    # What was typed, without the quotes of the shell.
    local plain=() quote word letter
    for word in "${words[@]}"; do
        local text=""
        quote=""
        for ((index = 0; index < ${#word}; index++)); do
            letter="${word:index:1}"
            case "$quote$letter" in
                \'\' | \"\") quote="" ;;
                \' | \") quote="$letter" ;;
                \\ | \"\\) ((++index)); text+="${word:index:1}" ;;
                *) text+="$letter" ;;
            esac
        done
        plain+=("$text")
    done
    names="$("$1" complete -- "${plain[@]}" 2>/dev/null)"
    [[ -n "$names" ]] || return 1

    local typed="${plain[${#plain[@]}-1]}" left=""
    # Within quotes bash ends no word.
    if [[ -z "$quote" ]]; then
        for letter in : =; do
            [[ "$COMP_WORDBREAKS" == *"$letter"* && "$typed" == *"$letter"* ]] || continue
            word="${typed%"${typed##*"$letter"}"}"
            ((${#word} > ${#left})) && left="$word"
        done
    fi
    while IFS= read -r name; do
        [[ "$name" == "$typed"* ]] || continue
        [[ "$name" == *= ]] && compopt -o nospace 2>/dev/null
        name="${name:${#left}}"
        case "$quote" in
            \') name="${name//\'/\'\\\'\'}" ;;
            \") name="${name//\\/\\\\}"; name="${name//\"/\\\"}"; name="${name//\$/\\\$}"; name="${name//\`/\\\`}" ;;
            *) printf -v name '%q' "$name" ;;
        esac
        COMPREPLY+=("$name")
    done <<<"$names"
    ((${#COMPREPLY[@]} > 0))
}

