package guest

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// RedactCommand returns the argument list of any other program without what
// looks like a secret: it is for the processes that change a mapping, such as
// dmsetup (the keys in its tables), cryptsetup, lvm, and the agents and scripts
// that run them. The list of a hypervisor is redacted as its own. args is not
// changed.
func RedactCommand(args []string) []string { return Parser{}.Redact(args) }

func redactAny(args []string) []string {
	out := slices.Clone(args)
	for i := range out {
		switch {
		case i > 0 && takesSecret(args[i-1]):
			out[i] = Redacted
		case i > 1 && isScript(args, i):
			out[i] = redactScript(args[i])
		default:
			out[i] = redactArgument(args[i])
		}
	}
	redactFields(out)
	return out
}

// redactArgument redacts one argument of its own: a table, a message, a
// setting, an address, or a list of qemu-img.
func redactArgument(arg string) string {
	if strings.HasPrefix(arg, "{") {
		return redactJSON(arg, strings.Contains(arg, "qom-type"), 0)
	}
	if strings.ContainsAny(arg, " \t\n") {
		return redactText(arg)
	}
	if key, value, ok := strings.Cut(arg, "="); ok && secretWord(key) && value != "" {
		return key + "=" + Redacted
	}
	if strings.HasPrefix(arg, "secret,") || strings.Contains(arg, "qom-type=secret") {
		return redactList("object", arg)
	}
	if strings.Contains(arg, "=") {
		arg = redactList("", arg)
	}
	return devmap.RedactOption(redactAddress(arg, 0))
}

// redactText redacts a text of several words, with its white space as it is.
func redactText(text string) string {
	var words []string
	var gaps []int // where each word begins
	for from := 0; from < len(text); {
		if strings.IndexByte(" \t\n", text[from]) >= 0 {
			from++
			continue
		}
		end := strings.IndexAny(text[from:], " \t\n")
		if end < 0 {
			end = len(text) - from
		}
		words, gaps = append(words, text[from:from+end]), append(gaps, from)
		from += end
	}
	clean := slices.Clone(words)
	for i := range clean {
		if i > 0 && takesSecret(words[i-1]) {
			clean[i] = Redacted
		} else {
			clean[i] = redactArgument(words[i])
		}
	}
	redactFields(clean)
	var b strings.Builder
	done := 0
	for i, from := range gaps {
		b.WriteString(text[done:from] + clean[i])
		done = from + len(words[i])
	}
	return b.String() + text[done:]
}

// redactFields redacts the keys that are known by the words before them:
// "0 2048 crypt CIPHER KEY ..." of a table, "key set KEY" of a message.
func redactFields(words []string) {
	for i := range words {
		switch {
		case devmap.TakesKey(words[i]):
			if i > 0 && isNumber(words[i-1]) && i+2 < len(words) && !devmap.IsKeyReference(words[i+2]) {
				words[i+2] = Redacted
			}
		case words[i] == "set":
			if i > 0 && words[i-1] == "key" && i+1 < len(words) && !devmap.IsKeyReference(words[i+1]) {
				words[i+1] = Redacted
			}
		}
	}
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// takesSecret reports whether the next argument is a secret.
func takesSecret(arg string) bool {
	return strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") && secretWord(arg)
}

// secretWord is isSecret for the options and variables of any program:
// --passphrase, DB_PASSWORD, X-Auth-Token. Names of files, ids and sizes of
// keys (--key-file, --key-size) are none.
func secretWord(word string) bool {
	word = strings.ToLower(strings.TrimLeft(word, "-"))
	word = strings.ReplaceAll(word, "_", "-")
	if isSecret(word) {
		return true
	}
	for _, end := range []string{"-secret", "-key", "-pwd", "apikey", "-credential", "-credentials"} {
		if strings.HasSuffix(word, end) {
			return true
		}
	}
	return false
}

// isScript reports whether args[i] is the script of a shell's -c.
func isScript(args []string, i int) bool {
	switch path.Base(args[0]) {
	case "sh", "bash", "dash", "ash", "ksh", "zsh", "busybox":
		flag := args[i-1]
		return strings.HasPrefix(flag, "-") && !strings.HasPrefix(flag, "--") && strings.HasSuffix(flag, "c")
	}
	return false
}

// redactScript redacts a shell's script. One that writes text somewhere, be it
// a password into cryptsetup, is dropped as a whole.
func redactScript(script string) string {
	for _, sign := range []string{"echo", "printf", "<<", "crypt"} {
		if strings.Contains(script, sign) {
			return Redacted
		}
	}
	return redactText(script)
}
