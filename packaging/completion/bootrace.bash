# Completion of bootrace for bash: the program itself says what may come.
_bootrace() {
	local cur=${COMP_WORDS[COMP_CWORD]} text IFS=$'\n'
	COMPREPLY=()
	while IFS=$'\t' read -r text _; do
		COMPREPLY+=("$text")
	done < <(bootrace complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	[ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
	[[ $cur != *:* ]] || ! declare -F __ltrim_colon_completions >/dev/null || __ltrim_colon_completions "$cur"
}
complete -F _bootrace bootrace
