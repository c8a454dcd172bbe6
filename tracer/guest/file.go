package guest

// ParseFile reads one file name as -drive file= takes it, which is also how
// qemu takes the name of a backing file that stands in an image's header: with
// protocols, json:{...} and all. The format may be empty: then qemu probes it.
// Secrets are removed first.
func ParseFile(name, format string) (Image, []Problem) {
	s := &scan{}
	s.builder.problem = s.problem
	options := &value{}
	options.set("file", redactAddress(name, 0))
	if format != "" {
		options.set("format", format)
	}
	options, isNode := s.builder.spelledOut(options)
	return s.builder.make(&node{options: options, drive: !isNode}), s.guest.NotUnderstood
}

// IsRelative reports whether a file name is a path that is relative to the
// folder of the image that names it, rather than absolute, an address or a name
// with a protocol (bdrv_make_absolute_filename, block.c).
func IsRelative(name string) bool {
	_, hasProtocol := protocol(name)
	return name != "" && name[0] != '/' && !hasProtocol
}
