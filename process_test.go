package servercore_test

const otherProcess = "SERVERCORE_TEST_SERVER"

func serveOverPipes() int { return 1 }
