package devmap

import "strings"

// Redacted stands where a key was.
const Redacted = "REDACTED"

// RedactParams returns the parameters of a target without the keys in them.
// The kernel prints them in full to whoever may read a table:
//
//   - crypt: "cipher key iv_offset device offset ...". A key that is only a
//     reference into a keyring (":32:logon:name", Linux 4.10) is not secret.
//   - integrity: options such as "internal_hash:hmac(sha256):key".
func RedactParams(kind, params string) string {
	switch kind {
	case "crypt":
		return redactCrypt(params)
	case "integrity":
		return redactIntegrity(params)
	}
	return params
}

func redactCrypt(params string) string {
	fields := strings.Split(params, " ")
	if len(fields) > 1 && fields[1] != "-" && !strings.HasPrefix(fields[1], ":") {
		fields[1] = Redacted
	}
	return strings.Join(fields, " ")
}

func redactIntegrity(params string) string {
	fields := strings.Split(params, " ")
	for i, field := range fields {
		switch option, value, _ := strings.Cut(field, ":"); option {
		case "internal_hash", "journal_crypt", "journal_mac":
			if algorithm, _, keyed := strings.Cut(value, ":"); keyed {
				fields[i] = option + ":" + algorithm + ":" + Redacted
			}
		}
	}
	return strings.Join(fields, " ")
}
