// A certified OpenID provider with some people in groups. The first argument has its options as JSON; it prints its issuer.
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const { clientId, clientSecret, redirectUri, people, groupsInToken } = JSON.parse(process.argv[2])

const server = createServer()
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`
  const provider = new Provider(issuer, {
    clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri] }],
    claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
    // A conformant provider gives these claims at the userinfo endpoint only; many others put them into the token.
    conformIdTokenClaims: !groupsInToken,
    findAccount: (context, id) => people[id] && {
      accountId: id,
      claims: () => ({ sub: id, ...people[id] }),
    },
    pkce: { required: () => true },
  })
  server.on('request', provider.callback())
  console.log(issuer)
})
