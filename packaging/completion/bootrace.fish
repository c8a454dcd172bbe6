# Completion of bootrace for fish: the program itself says what may come.
function __bootrace_complete
    set -l words (commandline -opc)
    bootrace complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
function __bootrace_has_no_option
    test -z "$(__bootrace_complete)"
end
complete -c bootrace -f -a '(__bootrace_complete)'
complete -c bootrace -n __bootrace_has_no_option -F
