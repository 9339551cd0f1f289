
# Names of models, pools, transfers and settings, which the running daemon knows.
function __speedloader_names
    set -l words (commandline -opc)
    $words[1] complete -- $words (commandline -ct | string unescape; or commandline -ct) 2>/dev/null
end
complete -c speedloader -a '(__speedloader_names)'
