package guest

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// RedactCommand returns what may be told of the command line of any program: that
// of a hypervisor as Redact tells it; that of a tool of storage (StorageTool) without
// what looks like a secret; of all others argv[0] alone, since there is no end to
// the ways in which programs take secrets. args is not changed.
func RedactCommand(args []string) []string {
	if len(args) == 0 {
		return args
	}
	// By its name only: any program can have options that look like qemu's.
	h := known(args[0])
	switch {
	case h != nil:
		return h.redact(args)
	case StorageTool(args[0]):
		return redactAny(args)
	}
	return []string{programName(args[0])}
}

// programName is what argv[0] says of a program. Some write more into it: what
// they are doing, or their whole command line.
func programName(arg string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, " \t\n"), " ")
	return redactArgument(name)
}

func redactAny(args []string) []string {
	out := slices.Clone(args)
	for i := range out {
		switch {
		case i > 0 && takesSecret(args[i-1]):
			out[i] = Redacted
		case i > 0 && isMountOptions(args, i):
			out[i] = redactMountOptions(args[i])
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
	return strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") && !slices.Contains(switches, arg) && secretWord(arg)
}

// switches are options of cryptsetup that sound like secrets and take no value.
var switches = []string{"--test-passphrase", "--verify-passphrase", "--force-password", "--dump-master-key", "--dump-volume-key"}

// secretWord is isSecret for the options and variables of any program:
// --passphrase, DB_PASSWORD, X-Auth-Token. Names of files, ids and sizes of
// keys (--key-file, --key-size) are none.
func secretWord(word string) bool {
	word = strings.ToLower(strings.TrimLeft(word, "-"))
	word = strings.ReplaceAll(word, "_", "-")
	word = strings.TrimRight(word, "0123456789") // cifs has a password2
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

// isMountOptions reports whether args[i] has the options of a mount: the value of
// -o or --options, or that option and its value in one.
func isMountOptions(args []string, i int) bool {
	if name := fileName(args[0]); !strings.HasPrefix(name, "mount") {
		return false
	}
	before, arg := args[i-1], args[i]
	switch {
	case before == "--options", len(before) > 1 && before[0] == '-' && before[1] != '-' && strings.HasSuffix(before, "o"):
		return true // its value, whatever it begins with
	case strings.HasPrefix(arg, "--"):
		return strings.HasPrefix(arg, "--options=")
	}
	return strings.HasPrefix(arg, "-o")
}

// redactMountOptions redacts a list of options, as mount(8) takes them. cifs takes
// a password after the user's name (user=NAME%PASSWORD), and a file system of FUSE
// a command to execute.
func redactMountOptions(list string) string {
	options := strings.Split(list, ",")
	for n, option := range options {
		key, value, ok := strings.Cut(option, "=")
		name := strings.TrimPrefix(strings.TrimPrefix(key, "--options"), "-o")
		switch user, _, password := strings.Cut(value, "%"); {
		case !ok || value == "":
		case name == "" && n == 0: // --options=KEY=VALUE
			options[n] = key + "=" + redactMountOptions(value)
		case secretWord(name), strings.ContainsAny(value, " \t\n"):
			options[n] = key + "=" + Redacted
		case password && strings.HasPrefix(name, "user"):
			options[n] = key + "=" + user + "%" + Redacted
		default:
			options[n] = key + "=" + redactArgument(value)
		}
	}
	return strings.Join(options, ",")
}

// saidSecret is a secret in prose or a setting: "password: x", "token=x",
// "Authorization: Bearer x".
var saidSecret = regexp.MustCompile(`(?i)((?:^|[^a-z0-9])[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api-?key|authorization|credential)s?["')}\]]*\s*[:=]+\s*["']?(?:bearer |basic )?)([^\s"',;]+)`)

// RedactText returns a text of any program, such as a line of a journal or of a
// setting, without what looks like a secret in it. It takes too much rather than too
// little: such a text has no form that could be followed.
func RedactText(text string) string {
	return saidSecret.ReplaceAllString(redactText(text), "${1}"+Redacted)
}
