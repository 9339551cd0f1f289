# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_speedloader_global_optspecs
    string join \n config= socket= json v/verbose q/quiet h/help V/version
end

function __fish_speedloader_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_speedloader_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_speedloader_using_subcommand
    set -l cmd (__fish_speedloader_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c speedloader -n "__fish_speedloader_needs_command" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_needs_command" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_needs_command" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_needs_command" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c speedloader -n "__fish_speedloader_needs_command" -s V -l version -d 'Print version'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "mount" -d 'Mount, and return when the mount answers'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "umount" -d 'Unmount, and return when the daemon has ended'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "serve" -d 'Run the daemon in the foreground, for systemd and containers'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "setup" -d 'Find models on this machine and write a first configuration'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "install" -d 'Mount at every start: write a service, or a line of fstab; and take it back'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "status" -d 'Show how the daemon, its pools and its homes are'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "models" -d 'List models, and how much of each is resident'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "promote" -d 'Copy models into a pool'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "demote" -d 'Drop the copies of models; their originals stay'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "pin" -d 'Keep a model in a pool'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "unpin" -d 'Leave a pinned model to the policy again'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "tiers" -d 'List pools, or connect, disconnect and resize one'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "top" -d 'Watch models, pools and transfers in the terminal, and steer them by keys'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "transfers" -d 'List copies that run or wait, or cancel one'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "wait" -d 'Return when models have arrived in their pools'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "which" -d 'Show where the files of a model are'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "explain" -d 'Say why a model is where it is'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "plan" -d 'Show what the policy would move now, and why'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "simulate" -d 'Replay loads: what would more RAM, or another policy, have brought?'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "rescan" -d 'Read all homes through now'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "events" -d 'Show what happened: promotions, loads, refusals, lost pools'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "history" -d 'Show the last loads: from RAM or not, and what that saved'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "forecast" -d 'Show what other pool sizes would have meant for the loads that are logged'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "health" -d 'Find what is wrong: mounts, pools, homes, blobs, space, settings; and repair what is safe'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "doctor" -d 'Find what is wrong: mounts, pools, homes, blobs, space, settings; and repair what is safe'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "config" -d 'Check, show or reload the configuration'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "remote-agent" -d 'Answer another machine\'s daemon over standard input and output'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "web-url" -d 'Print a link to the web page that may change things'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "openapi" -d 'Print the description of the HTTP API (OpenAPI 3.1)'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "version" -d 'Show this program\'s version, and the running daemon\'s'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "demo" -d 'Show on a temporary mount what speedloader does'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "man" -d 'Print the manual page, or write all pages into a directory'
complete -c speedloader -n "__fish_speedloader_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -l models -d 'The models directory, where engines write' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -l cold -d 'A directory of models that is only read; may be repeated' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -l pool -d 'A pool in memory: SIZE, NAME:SIZE or NAME:SIZE:DIR; may be repeated' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -s o -d 'Any key of the configuration, as mount options: KEY=VALUE,..; may be repeated' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand mount" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -s l -l lazy -d 'Detach at once; open files keep it alive until they are closed'
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand umount" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l models -d 'The models directory, where engines write' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l cold -d 'A directory of models that is only read; may be repeated' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l pool -d 'A pool in memory: SIZE, NAME:SIZE or NAME:SIZE:DIR; may be repeated' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -s o -d 'Any key of the configuration, as mount options: KEY=VALUE,..; may be repeated' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l ready-on-stdout -d 'How `mount` starts us: standard output is the pipe to it'
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand serve" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l directory -d 'A directory of models to look at as well; may be repeated' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l pool -d 'How much memory models may take: a size, or a share of it [default: what programs leave]' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l models -d 'Where engines will write models' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l mountpoint -d 'Where the models will be seen' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l yes -d 'Write the proposal without asking'
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l dry-run -d 'Only show what was found and what would be written'
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand setup" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l root -d 'Write beneath this directory instead of /' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l program -d 'The program that is to be run [default: this one]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l fstab -d 'A line of /etc/fstab instead of a service'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l uninstall -d 'Take back what was installed, by whichever way'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l now -d 'Also give the commands that make it count: systemctl, or mount'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l yes -d 'Change without asking'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l dry-run -d 'Only show what would change'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l force -d 'Replace, or remove, also what others wrote or changed, and keep it'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand install" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -s w -l watch -d 'Show it again and again, every so many seconds' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand status" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand models" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand models" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand models" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand models" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand models" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand models" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -s f -l file -d 'A list of names, the most wanted first; - for the standard input' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -s p -l pool -d 'The pool [default: the placement strategy chooses]' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -s w -l wait -d 'Return when every byte is copied and verified'
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand demote" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand demote" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand demote" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand demote" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand demote" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand demote" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand pin" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand pin" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand pin" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand pin" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand pin" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand pin" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand unpin" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand unpin" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand unpin" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand unpin" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand unpin" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand unpin" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -f -a "list" -d 'List pools, the fastest first'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -f -a "connect" -d 'Set a configured pool up and use it'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -f -a "disconnect" -d 'Stop using a pool: what other pools have room for moves there, the rest goes back to its home'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -f -a "resize" -d 'Change how large a pool may become'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and not __fish_seen_subcommand_from list connect disconnect resize help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from list" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from list" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from list" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -l dry-run -d 'Print each step and its command, and do none'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from connect" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l force -d 'Do so although copies in it are being read'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l wait -d 'Wait until they are not, and say who reads them'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l no-move -d 'Move nothing to other pools'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l dry-run -d 'Print what would move where and what would go back to its home, and do nothing'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from disconnect" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from resize" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from resize" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from resize" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from resize" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from resize" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from resize" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from help" -f -a "list" -d 'List pools, the fastest first'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from help" -f -a "connect" -d 'Set a configured pool up and use it'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from help" -f -a "disconnect" -d 'Stop using a pool: what other pools have room for moves there, the rest goes back to its home'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from help" -f -a "resize" -d 'Change how large a pool may become'
complete -c speedloader -n "__fish_speedloader_using_subcommand tiers; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -s p -l period -d 'Ask the daemon every so many seconds' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand top" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -l cancel -d 'End the copy with this id; nothing of it remains' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -s t -l timeout -d 'How long to wait at most' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c speedloader -n "__fish_speedloader_using_subcommand which" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand which" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand which" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand which" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand which" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand which" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand explain" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand explain" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand explain" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand explain" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand explain" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand explain" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand plan" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand plan" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand plan" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand plan" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand plan" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand plan" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l trace -d 'The trace [default: what the daemon has logged]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l pool -d 'Sizes of the pool in local RAM, to be compared' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l more -d 'Compare each size also with so much more: what would it buy?' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l remote -d 'A pool in another host\'s RAM beside it, without @RATE as fast as --bandwidth says; may be repeated' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l policy -d 'Policies to be compared; `auto` is speedloader\'s own' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l bandwidth -d 'What the tiers give' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l moves -d 'Whether a promotion happens while the load reads anyway, or is a copy of its own' -r -f -a "while-reading\t''
copy\t''"
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l plot -d 'Draw load time and the RAM that a byte not read cold costs, as SVG' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand simulate" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand rescan" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand rescan" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand rescan" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand rescan" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand rescan" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand rescan" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -l since -d 'Only events after this number (their `seq` in JSON)' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -s f -l follow -d 'Stay, and show what happens from now on'
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand events" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand history" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand history" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand history" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand history" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand history" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand history" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand forecast" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand forecast" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand forecast" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand forecast" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand forecast" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand forecast" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -l as -d 'Only tell whether this user can reach and read the mount and the models in it' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -l repair -d 'Repair what can be repaired safely: left-over files, stale mounts, bad replicas; never a home'
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -l all -d 'Hash every blob and compare every byte of every replica, rather than samples'
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand health" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -l as -d 'Only tell whether this user can reach and read the mount and the models in it' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -l repair -d 'Repair what can be repaired safely: left-over files, stale mounts, bad replicas; never a home'
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -l all -d 'Hash every blob and compare every byte of every replica, rather than samples'
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "check" -d 'Report every fault of a configuration, with its place and what would be right'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "show" -d 'Print the configuration in effect, secrets blanked'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "sample" -d 'Print a commented configuration with every key and its default'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "fields" -d 'Print every field of the running daemon with its value, origin, effect and meaning'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "set" -d 'Change the configuration file of the running daemon, keeping its comments, and apply what can be'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "reload" -d 'Have the daemon read its configuration again, and say what that changed'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and not __fish_seen_subcommand_from check show sample fields set reload help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from check" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from check" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -l origin -d 'Say where each value is from: default, file and line, environment, option'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -l running -d 'Ask the running daemon, rather than read the file'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from sample" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from sample" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from sample" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from sample" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from sample" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from sample" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from fields" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from fields" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from fields" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from fields" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from fields" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from fields" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -l dry-run -d 'Only say what would change'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from reload" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from reload" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from reload" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from reload" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from reload" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "check" -d 'Report every fault of a configuration, with its place and what would be right'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print the configuration in effect, secrets blanked'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "sample" -d 'Print a commented configuration with every key and its default'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "fields" -d 'Print every field of the running daemon with its value, origin, effect and meaning'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "set" -d 'Change the configuration file of the running daemon, keeping its comments, and apply what can be'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "reload" -d 'Have the daemon read its configuration again, and say what that changed'
complete -c speedloader -n "__fish_speedloader_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c speedloader -n "__fish_speedloader_using_subcommand remote-agent" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand remote-agent" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand remote-agent" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand remote-agent" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand remote-agent" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand remote-agent" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c speedloader -n "__fish_speedloader_using_subcommand web-url" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand web-url" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand web-url" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand web-url" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand web-url" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand web-url" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand openapi" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand openapi" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand openapi" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand openapi" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand openapi" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand openapi" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand version" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand version" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand version" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand version" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand version" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand version" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -l models -d 'Use this directory of models, without writing to it, rather than synthetic ones' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -l size -d 'How large each synthetic model is' -r
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -l keep -d 'Leave the mount up, to look around'
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand demo" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand completions" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand completions" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand completions" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand completions" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand completions" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand completions" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -s d -l directory -d 'An existing directory, which gets a page for each verb' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -l config -d 'The configuration file [default: ~/.config/speedloader/config.toml, except for root, else /etc/speedloader/config.toml; environment: SPEEDLOADER_CONFIG]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -l socket -d 'The daemon\'s socket [default: as configured; environment: SPEEDLOADER_SOCKET]' -r -F
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -l json -d 'Print JSON instead of text'
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -s v -l verbose -d 'Say more; may be repeated'
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -s q -l quiet -d 'Say nothing but errors'
complete -c speedloader -n "__fish_speedloader_using_subcommand man" -s h -l help -d 'Print help'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "mount" -d 'Mount, and return when the mount answers'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "umount" -d 'Unmount, and return when the daemon has ended'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "serve" -d 'Run the daemon in the foreground, for systemd and containers'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "setup" -d 'Find models on this machine and write a first configuration'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "install" -d 'Mount at every start: write a service, or a line of fstab; and take it back'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "status" -d 'Show how the daemon, its pools and its homes are'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "models" -d 'List models, and how much of each is resident'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "promote" -d 'Copy models into a pool'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "demote" -d 'Drop the copies of models; their originals stay'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "pin" -d 'Keep a model in a pool'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "unpin" -d 'Leave a pinned model to the policy again'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "tiers" -d 'List pools, or connect, disconnect and resize one'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "top" -d 'Watch models, pools and transfers in the terminal, and steer them by keys'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "transfers" -d 'List copies that run or wait, or cancel one'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "wait" -d 'Return when models have arrived in their pools'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "which" -d 'Show where the files of a model are'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "explain" -d 'Say why a model is where it is'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "plan" -d 'Show what the policy would move now, and why'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "simulate" -d 'Replay loads: what would more RAM, or another policy, have brought?'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "rescan" -d 'Read all homes through now'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "events" -d 'Show what happened: promotions, loads, refusals, lost pools'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "history" -d 'Show the last loads: from RAM or not, and what that saved'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "forecast" -d 'Show what other pool sizes would have meant for the loads that are logged'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "health" -d 'Find what is wrong: mounts, pools, homes, blobs, space, settings; and repair what is safe'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "config" -d 'Check, show or reload the configuration'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "remote-agent" -d 'Answer another machine\'s daemon over standard input and output'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "web-url" -d 'Print a link to the web page that may change things'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "openapi" -d 'Print the description of the HTTP API (OpenAPI 3.1)'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "version" -d 'Show this program\'s version, and the running daemon\'s'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "demo" -d 'Show on a temporary mount what speedloader does'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "completions" -d 'Print completions for a shell'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "man" -d 'Print the manual page, or write all pages into a directory'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and not __fish_seen_subcommand_from mount umount serve setup install status models promote demote pin unpin tiers top transfers wait which explain plan simulate rescan events history forecast health config remote-agent web-url openapi version demo completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from tiers" -f -a "list" -d 'List pools, the fastest first'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from tiers" -f -a "connect" -d 'Set a configured pool up and use it'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from tiers" -f -a "disconnect" -d 'Stop using a pool: what other pools have room for moves there, the rest goes back to its home'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from tiers" -f -a "resize" -d 'Change how large a pool may become'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "check" -d 'Report every fault of a configuration, with its place and what would be right'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Print the configuration in effect, secrets blanked'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "sample" -d 'Print a commented configuration with every key and its default'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "fields" -d 'Print every field of the running daemon with its value, origin, effect and meaning'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "set" -d 'Change the configuration file of the running daemon, keeping its comments, and apply what can be'
complete -c speedloader -n "__fish_speedloader_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "reload" -d 'Have the daemon read its configuration again, and say what that changed'

# Names of models, pools, transfers and settings, which the running daemon knows.
function __speedloader_names
    set -l words (commandline -opc)
    $words[1] complete -- $words (commandline -ct | string unescape; or commandline -ct) 2>/dev/null
end
complete -c speedloader -a '(__speedloader_names)'
complete -c speedloader -n "__fish_speedloader_using_subcommand promote" -l pool -s p -x -a '(__speedloader_names)'
complete -c speedloader -n "__fish_speedloader_using_subcommand transfers" -l cancel -x -a '(__speedloader_names)'
