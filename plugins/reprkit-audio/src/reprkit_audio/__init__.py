"""Speech for reprkit: data sets, front ends, vocoders, voice conversion and its measures."""
